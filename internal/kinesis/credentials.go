package kinesis

import (
	"context"
	"errors"
	"fmt"
	"os"
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
func chainOptions(s Settings, roles *stsClient) ([]func(*config.LoadOptions) error, error) {
	options := []func(*config.LoadOptions) error{
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) { o.Client = roles }),
	}
	if s.KeyID != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(s.KeyID, s.SecretKey, s.SessionToken)))
	}
	profile := s.Profile
	if s.CredentialsPath != "" {
		// The SDK passes over a file that is not there and goes on to other
		// sources, so that records could go to somebody else's stream.
		if _, err := os.Stat(s.CredentialsPath); err != nil {
			return nil, fmt.Errorf("credentials_path: %w", err)
		}
		options = append(options, config.WithSharedCredentialsFiles([]string{s.CredentialsPath}))
		// Only where a profile is named does the SDK put the file before keys
		// in the environment; a path that was written down goes first.
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

// profileError names the option where the SDK names a profile alone. A profile
// that is not there stops the start: files are read once, waiting would not help.
func profileError(s Settings, err error) error {
	var missing config.SharedConfigProfileNotExistError
	if !errors.As(err, &missing) {
		return err
	}
	if s.CredentialsPath != "" {
		return fmt.Errorf("profile: %q is not in the credentials_path %s", missing.Profile, s.CredentialsPath)
	}
	return fmt.Errorf("profile: %q is not in the shared configuration and credentials files", missing.Profile)
}

// signer hands out the credentials that requests are signed with.
type signer struct {
	// caches are the SDK's: the chain's, and with a role the role's behind it.
	// The last one signs.
	caches []*aws.CredentialsCache
}

func newSigner(cfg aws.Config, s Settings, roles *stsClient) *signer {
	chain, ok := cfg.Credentials.(*aws.CredentialsCache)
	if !ok {
		chain = aws.NewCredentialsCache(cfg.Credentials)
	}
	if s.RoleARN == "" {
		return &signer{caches: []*aws.CredentialsCache{chain}}
	}
	role := stscreds.NewAssumeRoleProvider(roles, s.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = s.RoleSessionName
		o.Duration = roleDuration
		if s.ExternalID != "" {
			o.ExternalID = &s.ExternalID
		}
	})
	return &signer{caches: []*aws.CredentialsCache{chain, aws.NewCredentialsCache(assumedRole{role},
		func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore })}}
}

// Retrieve implements aws.CredentialsProvider. It marks what goes wrong as a
// *credentialsError, by which Judge tells STS from Kinesis.
func (s *signer) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := s.caches[len(s.caches)-1].Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	return found, nil
}

// forget drops cached credentials, so that the next request fetches its own.
func (s *signer) forget() {
	for _, c := range s.caches {
		c.Invalidate()
	}
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
