package kinesis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	// renewBefore is the time before their expiration at which credentials are
	// renewed. EC2 provides new credentials at least five minutes before the old
	// ones expire, so an earlier request could return the old ones.
	renewBefore = 5 * time.Minute

	// roleDuration is the duration of an AssumeRole session. An hour is the smallest
	// maximum that a role can have, and the maximum for chained roles.
	roleDuration = time.Hour
)

// stsClient is the client for AssumeRole and for web identity. The credential chain
// needs a client before the configuration exists that the client is made from. Open
// therefore sets the embedded client later.
type stsClient struct{ *sts.Client }

// chainOptions returns the options for the SDK's credential chain.
func chainOptions(s Settings, roles *stsClient, hidden *secrets) ([]func(*config.LoadOptions) error, error) {
	options := []func(*config.LoadOptions) error{
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) {
			o.Client = roles
			// The SDK also calls this function before there is a token.
			if o.TokenRetriever != nil {
				o.TokenRetriever = notedToken{o.TokenRetriever, hidden}
			}
		}),
	}
	if s.KeyID != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(s.KeyID, s.SecretKey, s.SessionToken)))
	}
	profile := s.Profile
	if s.CredentialsPath != "" {
		// The SDK ignores a missing file and continues with other sources. Records
		// could then go to the stream of another account.
		if _, err := os.Stat(s.CredentialsPath); err != nil {
			return nil, &SettingError{"CredentialsPath", err}
		}
		options = append(options, config.WithSharedCredentialsFiles([]string{s.CredentialsPath}))
		// The SDK prefers the file to keys in the environment only if a profile is
		// set. A configured path has priority over the environment.
		if profile == "" {
			profile = os.Getenv("AWS_PROFILE")
		}
		if profile == "" {
			profile = config.DefaultSharedConfigProfile
		}
	}
	if profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	return options, nil
}

// profileError returns a *SettingError if err says that a profile is missing. A
// missing profile aborts startup, because its name is probably misspelled.
func profileError(s Settings, err error) error {
	var missing config.SharedConfigProfileNotExistError
	if !errors.As(err, &missing) {
		return err
	}
	if s.CredentialsPath != "" {
		return &SettingError{"Profile", fmt.Errorf("%q is not in the file %s", missing.Profile, s.CredentialsPath)}
	}
	return &SettingError{"Profile", fmt.Errorf("%q is not in the shared configuration and credentials files", missing.Profile)}
}

// signer provides the credentials that requests are signed with.
type signer struct {
	chain *chain
	// role assumes a role with the chain's credentials. It is nil if requests are
	// signed with the chain's credentials.
	role    *aws.CredentialsCache
	secrets *secrets
}

func newSigner(c *chain, s Settings, roles *stsClient, hidden *secrets) *signer {
	if s.RoleARN == "" {
		return &signer{chain: c, secrets: hidden}
	}
	role := stscreds.NewAssumeRoleProvider(roles, s.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = s.RoleSessionName
		o.Duration = roleDuration
		if s.ExternalID != "" {
			o.ExternalID = &s.ExternalID
		}
	})
	return &signer{chain: c, secrets: hidden, role: aws.NewCredentialsCache(assumedRole{role},
		func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore })}
}

// Retrieve implements aws.CredentialsProvider. It wraps its errors in a
// *credentialsError, so that Classify can distinguish them from errors of Kinesis.
func (s *signer) Retrieve(ctx context.Context) (aws.Credentials, error) {
	s.chain.check(ctx)
	// After check, because credentials that check loads have not been rejected.
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		a.generation.Store(s.chain.generation.Load())
	}
	found, err := s.retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	s.secrets.note(found.SecretAccessKey, found.SessionToken)
	return found, nil
}

func (s *signer) retrieve(ctx context.Context) (aws.Credentials, error) {
	if s.role == nil {
		return s.chain.Retrieve(ctx)
	}
	return s.role.Retrieve(ctx)
}

// renew drops the credentials that the attempt used, so that the next request gets
// new ones. Kinesis or STS has rejected them.
func (s *signer) renew(ctx context.Context, a *attempt) {
	if s.chain.renew(ctx, a.generation.Load()) && s.role != nil {
		s.role.Invalidate()
	}
}

// attempt is the state of a request in progress. It is a value of the request's
// context.
type attempt struct{ generation atomic.Uint64 }

type attemptKey struct{}

func newAttempt(ctx context.Context) (context.Context, *attempt) {
	a := new(attempt)
	return context.WithValue(ctx, attemptKey{}, a), a
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// assumedRole renews credentials halfway through their remaining lifetime if that
// is shorter than the renewal window. Otherwise the cache would consider them
// expired when they arrive, and call STS before every request.
type assumedRole struct{ *stscreds.AssumeRoleProvider }

// AdjustExpiresBy implements aws.AdjustExpiresByCredentialsCacheStrategy. by is
// -renewBefore.
func (assumedRole) AdjustExpiresBy(c aws.Credentials, by time.Duration) (aws.Credentials, error) {
	c.Expires = renewalTime(time.Now(), c.Expires, -by)
	return c, nil
}

func renewalTime(now, end time.Time, before time.Duration) time.Time {
	left := max(end.Sub(now), 0)
	return end.Add(-min(before, left/2))
}
