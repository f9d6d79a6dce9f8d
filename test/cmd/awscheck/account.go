package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"out_kinesis_agg/test/kit/harness"
)

// account is the AWS account, or an emulator of it, and what this run created there.
type account struct {
	id, region, endpoint string
	partition            string // aws, aws-cn or aws-us-gov
	run, prefix          string // the run's ID, and how its names begin
	plugin, host, dir    string
	out                  io.Writer

	config  aws.Config
	kinesis *kinesis.Client
	kms     *kms.Client
	iam     *iam.Client
	sts     *sts.Client

	streams map[string]string // name to ARN of those that are active
	created []resource
	keyID   string
	keyARN  string
	roleARN string
	roleErr error  // of the attempt to create it
	seed    uint64 // of the last chunk
}

// resource is something to remove.
type resource struct {
	what   string
	remove func(context.Context) error
}

// local reports whether the account is an emulator.
func (a *account) local() bool { return a.endpoint != "" }

func openAccount(ctx context.Context, f flags, run string, out io.Writer) (*account, error) {
	options := []func(*config.LoadOptions) error{config.WithRegion(f.region)}
	if f.endpoint != "" {
		options = append(options, config.WithBaseEndpoint(f.endpoint))
		if f.region == "" {
			options[0] = config.WithRegion(harness.Region)
		}
		// Never those of an account.
		c := f.keys
		if c.AccessKeyID == "" {
			c.AccessKeyID, c.SecretAccessKey = harness.AccessKeyID, harness.SecretAccessKey
		}
		options = append(options, config.WithCredentialsProvider(credentials.StaticCredentialsProvider{Value: c}))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errors.New("no region: set -region, with ARGS=\"-region eu-central-1\"")
	}
	a := &account{
		region: cfg.Region, endpoint: f.endpoint, run: run, prefix: prefix + run, out: out, config: cfg,
		kinesis: kinesis.NewFromConfig(cfg), kms: kms.NewFromConfig(cfg), iam: iam.NewFromConfig(cfg), sts: sts.NewFromConfig(cfg),
		streams: map[string]string{}, id: "000000000000", partition: "aws",
	}
	identity, err := a.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	switch {
	case err == nil:
		a.id = aws.ToString(identity.Account)
		if own, err := arn.Parse(aws.ToString(identity.Arn)); err == nil {
			a.partition = own.Partition
		}
	case !a.local():
		return nil, fmt.Errorf("the credentials do not work: %w", err)
	case !responded(err):
		return nil, fmt.Errorf("-endpoint: %w", err)
	}
	return a, nil
}

// arn names a resource of the account. The scope is a service and a region.
func (a *account) arn(scope, resource string) string {
	return "arn:" + a.partition + ":" + scope + ":" + a.id + ":" + resource
}

// url is the address of Kinesis in the region, whose domain depends on the partition.
func (a *account) url(ctx context.Context) (string, error) {
	endpoint, err := kinesis.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, kinesis.EndpointParameters{Region: &a.region})
	if err != nil {
		return "", err
	}
	return endpoint.URI.String(), nil
}

// policy is what the credentials need, as an IAM policy.
func policy(a *account) string {
	text, _ := json.MarshalIndent(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{
			map[string]any{"Effect": "Allow", "Action": "kinesis:*", "Resource": a.arn("kinesis:*", "stream/"+prefix+"*")},
			map[string]any{"Effect": "Allow", "Action": []string{
				"iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:DeleteRole", "sts:AssumeRole"},
				"Resource": a.arn("iam:", "role/"+prefix+"*")},
			map[string]any{"Effect": "Allow", "Action": []string{
				"kms:CreateKey", "kms:TagResource", "kms:ScheduleKeyDeletion", "kms:GenerateDataKey", "kms:Decrypt",
				"kms:DescribeKey", "kms:ListKeys", "sts:GetCallerIdentity"}, "Resource": "*"},
		},
	}, "", "  ") // Strings and maps always marshal.
	return string(text) + "\n"
}

// owns notes something to remove before it is created, so that an interrupted
// creation is removed too.
func (a *account) owns(r resource) {
	if slices.ContainsFunc(a.created, func(o resource) bool { return o.what == r.what }) {
		return
	}
	a.created = append(a.created, r)
}

// removalLimit bounds the removal.
const removalLimit = 5 * time.Minute

// creationLimit bounds a request that creates something.
const creationLimit = 30 * time.Second

// creating is the context of a request that creates something. An interrupt does not
// end it: otherwise AWS could still create after the removal, and a key whose ID is not
// known. An interrupt that has come already creates nothing.
func creating(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), creationLimit)
}

// removeAll removes what was created, all at once: the deletion of a stream takes up to
// a minute.
func (a *account) removeAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	ended := make([]chan error, len(a.created))
	for i, r := range a.created {
		ended[i] = make(chan error, 1)
		go func() { ended[i] <- r.remove(ctx) }()
	}
	var errs []error
	for i, r := range a.created {
		switch err := a.unsupported(<-ended[i]); {
		case err == nil:
			fmt.Fprintln(a.out, "removed", r.what)
		case !errors.Is(err, errUnavailable):
			errs = append(errs, fmt.Errorf("%s is not removed: %w", r.what, err))
		default:
			// An emulator that cannot remove it has not created it.
		}
	}
	if len(errs) > 0 {
		errs = append(errs, fmt.Errorf("try again with ARGS=\"-cleanup %s\"", a.run))
	}
	return errors.Join(errs...)
}

// The streams of a run.
const (
	provisioned = "-provisioned"
	narrow      = "-narrow" // one shard
	encrypted   = "-encrypted"
	onDemand    = "-on-demand"
	automatic   = "-auto"
)

// expectEverything notes all that a run may have created.
func (a *account) expectEverything() {
	for _, kind := range []string{provisioned, narrow, encrypted, onDemand, automatic} {
		a.ownsStream(a.prefix + kind)
	}
	a.ownsKey()
	a.ownsRole()
}

// ownsStream has the stream deleted, and waits until it is.
func (a *account) ownsStream(name string) {
	a.owns(resource{"stream " + name, func(ctx context.Context) error {
		for {
			_, err := a.kinesis.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name, EnforceConsumerDeletion: aws.Bool(true)})
			var missing *types.ResourceNotFoundException
			var busy *types.ResourceInUseException
			switch {
			case errors.As(err, &missing):
				return nil
			case err != nil && !errors.As(err, &busy):
				return err
			}
			// It is being created, changed or deleted.
			if err := wait(ctx, a.pace(2*time.Second)); err != nil {
				return err
			}
		}
	}})
}

// pace is how long to wait before a question is repeated.
func (a *account) pace(d time.Duration) time.Duration {
	if a.local() {
		return d / 20
	}
	return d
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stream returns the ARN of a stream of the run, which it creates at first use.
func (a *account) stream(ctx context.Context, kind string) (name, arn string, err error) {
	name = a.prefix + kind
	if arn := a.streams[name]; arn != "" {
		return name, arn, nil
	}
	in := &kinesis.CreateStreamInput{StreamName: &name}
	switch kind {
	case provisioned:
		in.ShardCount = aws.Int32(2)
	case narrow, encrypted:
		in.ShardCount = aws.Int32(1)
	default:
		in.StreamModeDetails = &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand}
	}
	a.ownsStream(name)
	create, cancel := creating(ctx)
	defer cancel()
	if _, err := a.kinesis.CreateStream(create, in); err != nil {
		return "", "", a.unsupported(err)
	}
	if arn, err = a.active(ctx, name); err != nil {
		return "", "", err
	}
	if kind == encrypted {
		key, err := a.key(ctx)
		if err != nil {
			return "", "", err
		}
		if _, err := a.kinesis.StartStreamEncryption(ctx, &kinesis.StartStreamEncryptionInput{
			StreamName: &name, EncryptionType: types.EncryptionTypeKms, KeyId: &key}); err != nil {
			return "", "", a.unsupported(err)
		}
		if _, err := a.active(ctx, name); err != nil {
			return "", "", err
		}
	}
	a.streams[name] = arn
	return name, arn, nil
}

// active waits until a stream can be changed, and returns its ARN.
func (a *account) active(ctx context.Context, name string) (arn string, err error) {
	for {
		out, err := a.kinesis.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &name})
		if err != nil {
			return "", err
		}
		if s := out.StreamDescriptionSummary; s.StreamStatus == types.StreamStatusActive {
			return aws.ToString(s.StreamARN), nil
		}
		if err := wait(ctx, a.pace(time.Second)); err != nil {
			return "", err
		}
	}
}

// responded reports whether there was a response.
func responded(err error) bool {
	var response *smithyhttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() > 0
}

// unsupported turns a refusal by an emulator into errUnavailable: an emulator refuses
// what it does not have in many ways. AWS's errors stay, except for an operation that
// the region does not have.
func (a *account) unsupported(err error) error {
	if a.local() && responded(err) || code(err) == "UnknownOperationException" {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return err
}

// key returns the ARN of a KMS key, which it creates at first use.
func (a *account) key(ctx context.Context) (string, error) {
	if a.keyARN != "" {
		return a.keyARN, nil
	}
	a.ownsKey()
	create, cancel := creating(ctx)
	defer cancel()
	out, err := a.kms.CreateKey(create, &kms.CreateKeyInput{
		Description: aws.String(a.keyDescription()),
		Tags:        []kmstypes.Tag{{TagKey: aws.String("Name"), TagValue: aws.String(a.prefix)}},
	})
	if err != nil {
		return "", a.unsupported(err)
	}
	a.keyID, a.keyARN = aws.ToString(out.KeyMetadata.KeyId), aws.ToString(out.KeyMetadata.Arn)
	return a.keyARN, nil
}

func (a *account) keyDescription() string { return a.prefix + ", can be deleted" }

// ownsKey has the key of the run deleted. If its ID is not known, it is found by its
// description.
func (a *account) ownsKey() {
	a.owns(resource{"KMS key " + a.prefix, func(ctx context.Context) error {
		if a.keyID != "" {
			return a.deleteKey(ctx, a.keyID)
		}
		for pages := kms.NewListKeysPaginator(a.kms, &kms.ListKeysInput{}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, k := range page.Keys {
				out, err := a.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.KeyId})
				if code(err) == "AccessDeniedException" {
					continue // The key of a run can be described.
				}
				if err != nil {
					return err
				}
				m := out.KeyMetadata
				if aws.ToString(m.Description) != a.keyDescription() || m.KeyState == kmstypes.KeyStatePendingDeletion {
					continue
				}
				if err := a.deleteKey(ctx, *k.KeyId); err != nil {
					return err
				}
			}
		}
		return nil
	}})
}

func (a *account) deleteKey(ctx context.Context, id string) error {
	_, err := a.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
	return err
}

const externalID = "kinesis-agg-check"

func (a *account) ownsRole() {
	name := a.prefix
	a.owns(resource{"role " + name, func(ctx context.Context) error {
		var missing *iamtypes.NoSuchEntityException
		_, err := a.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &name})
		if err != nil && !errors.As(err, &missing) {
			return err
		}
		_, err = a.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
		if errors.As(err, &missing) {
			return nil
		}
		return err
	}})
}

// role returns the ARN of a role that may do everything with the streams of the run
// and its KMS key, and which this account can assume with externalID.
func (a *account) role(ctx context.Context) (string, error) {
	if a.roleARN == "" && a.roleErr == nil {
		a.roleErr = a.createRole(ctx)
	}
	return a.roleARN, a.roleErr
}

func (a *account) createRole(ctx context.Context) error {
	trust := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"%s"}}}]}`, a.id, externalID)
	permissions := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:*","Resource":"%s"},{"Effect":"Allow","Action":["kms:GenerateDataKey","kms:Decrypt"],"Resource":"*"}]}`, a.arn("kinesis:*", "stream/"+a.prefix+"*"))
	name := a.prefix
	a.ownsRole()
	create, cancel := creating(ctx)
	defer cancel()
	out, err := a.iam.CreateRole(create, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
	if err != nil {
		return a.unsupported(err)
	}
	if _, err := a.iam.PutRolePolicy(create, &iam.PutRolePolicyInput{RoleName: &name, PolicyName: &name, PolicyDocument: &permissions}); err != nil {
		return a.unsupported(err)
	}
	a.roleARN = aws.ToString(out.Role.Arn)
	// A new role takes some seconds to reach STS.
	for until := time.Now().Add(a.pace(roleLimit)); ; {
		_, err := a.session(ctx, "")
		if err == nil {
			return nil
		}
		if time.Now().After(until) || wait(ctx, a.pace(2*time.Second)) != nil {
			return a.unsupported(err)
		}
	}
}

// roleLimit is how long a new role may take to reach STS.
const roleLimit = time.Minute

// session returns credentials of the role, which a session policy can restrict.
func (a *account) session(ctx context.Context, restrict string) (aws.Credentials, error) {
	in := &sts.AssumeRoleInput{RoleArn: &a.roleARN, RoleSessionName: aws.String(a.prefix), ExternalId: aws.String(externalID), DurationSeconds: aws.Int32(900)}
	if restrict != "" {
		in.Policy = &restrict
	}
	out, err := a.sts.AssumeRole(ctx, in)
	if err != nil {
		return aws.Credentials{}, err
	}
	c := out.Credentials
	return aws.Credentials{AccessKeyID: aws.ToString(c.AccessKeyId), SecretAccessKey: aws.ToString(c.SecretAccessKey), SessionToken: aws.ToString(c.SessionToken)}, nil
}
