package kinesis

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
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
	return &signer{chain: c, secrets: hidden, role: newCache(role)}
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
type attempt struct {
	ctx         context.Context // ends with the request
	generation  atomic.Uint64
	clockOffset atomic.Int64 // time.Duration
}

type attemptKey struct{}

func newAttempt(ctx context.Context) (context.Context, *attempt) {
	a := &attempt{ctx: ctx}
	return context.WithValue(ctx, attemptKey{}, a), a
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// newCache returns a cache of credentials that renews them before they expire.
func newCache(p aws.CredentialsProvider) *aws.CredentialsCache {
	return aws.NewCredentialsCache(renewed{p}, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore })
}

// renewed renews credentials halfway through their remaining lifetime if that is
// shorter than the renewal window. Otherwise the cache would consider them expired when
// they arrive, and request new ones before every PutRecord.
type renewed struct{ aws.CredentialsProvider }

// AdjustExpiresBy implements aws.AdjustExpiresByCredentialsCacheStrategy. by is
// -renewBefore.
func (renewed) AdjustExpiresBy(c aws.Credentials, by time.Duration) (aws.Credentials, error) {
	if c.CanExpire {
		c.Expires = renewalTime(time.Now(), c.Expires, -by)
	}
	return c, nil
}

// ProviderSources implements aws.CredentialProviderSource.
func (r renewed) ProviderSources() []aws.CredentialSource {
	if s, ok := r.CredentialsProvider.(aws.CredentialProviderSource); ok {
		return s.ProviderSources()
	}
	return nil
}

// renewalTime returns when to renew credentials that expire at end. If they are expired
// already, because the source or this host's clock is wrong, it is not at each request.
func renewalTime(now, end time.Time, before time.Duration) time.Time {
	left := end.Sub(now)
	if left <= 0 {
		return now.Add(renewInterval)
	}
	return end.Add(-min(before, left/2))
}

// uncached removes a cache that the SDK's chain has made, with its renewal window.
type uncached struct{ *aws.CredentialsCache }

func (u uncached) Retrieve(ctx context.Context) (aws.Credentials, error) {
	u.Invalidate()
	c, err := u.CredentialsCache.Retrieve(ctx)
	if c.CanExpire {
		c.Expires = c.Expires.Add(renewBefore)
	}
	return c, err
}
