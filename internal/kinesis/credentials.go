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
	// renewBefore is how long before their end credentials are fetched anew.
	// EC2 promises the next ones five minutes ahead, so more would ask in vain.
	renewBefore = 5 * time.Minute

	// roleDuration is the length of an AssumeRole session. No role can be set
	// to less than an hour, and chained roles may not ask for more; a shorter
	// session would only ask STS more often.
	roleDuration = time.Hour
)

// stsClient is the client for AssumeRole and for web identity. The chain wants
// it before there is a configuration to make it from, hence the indirection.
type stsClient struct{ *sts.Client }

// chainOptions says where the SDK's chain looks for credentials.
func chainOptions(s Settings, roles *stsClient, hidden *secrets) ([]func(*config.LoadOptions) error, error) {
	options := []func(*config.LoadOptions) error{
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) {
			o.Client = roles
			// The SDK calls this once more before there is a token.
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
		// The SDK ignores a missing file and continues with other sources, so that
		// records could go to the stream of another account.
		if _, err := os.Stat(s.CredentialsPath); err != nil {
			return nil, &SettingError{"CredentialsPath", err}
		}
		options = append(options, config.WithSharedCredentialsFiles([]string{s.CredentialsPath}))
		// The SDK prefers the file to keys in the environment only if a profile is
		// named. A path that is configured comes first.
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

// profileError names the setting if a profile is missing. A missing profile aborts
// startup, because it is more likely misspelled than late.
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

// signer hands out the credentials that requests are signed with.
type signer struct {
	chain *chain
	// role is what the chain's credentials assume; nil where they sign themselves.
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

// Retrieve implements aws.CredentialsProvider. It marks what goes wrong as a
// *credentialsError, by which Classify distinguishes STS from Kinesis.
func (s *signer) Retrieve(ctx context.Context) (aws.Credentials, error) {
	s.chain.look(ctx)
	// Between the two, because what look loads is not what was rejected.
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

// renew drops the credentials that the attempt was signed with, or that STS
// rejected for it, so that the next request gets others.
func (s *signer) renew(ctx context.Context, a *attempt) {
	if s.chain.renew(ctx, a.generation.Load()) && s.role != nil {
		s.role.Invalidate()
	}
}

// attempt is what is remembered of a request while it is under way. It travels
// in the request's context.
type attempt struct{ generation atomic.Uint64 }

type attemptKey struct{}

func newAttempt(ctx context.Context) (context.Context, *attempt) {
	a := new(attempt)
	return context.WithValue(ctx, attemptKey{}, a), a
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// assumedRole renews an answer that ends within the renewal window halfway
// through its life. The cache alone would take it for expired on arrival and
// ask STS before every request.
type assumedRole struct{ *stscreds.AssumeRoleProvider }

// AdjustExpiresBy implements aws.AdjustExpiresByCredentialsCacheStrategy; by
// is minus renewBefore.
func (assumedRole) AdjustExpiresBy(c aws.Credentials, by time.Duration) (aws.Credentials, error) {
	c.Expires = renewalTime(time.Now(), c.Expires, -by)
	return c, nil
}

func renewalTime(now, end time.Time, before time.Duration) time.Time {
	left := max(end.Sub(now), 0)
	return end.Add(-min(before, left/2))
}
