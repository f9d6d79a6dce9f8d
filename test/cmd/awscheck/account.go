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
	run, prefix          string // the run's ID, and how its names begin
	plugin, host, dir    string
	out                  io.Writer

	config  aws.Config
	kinesis *kinesis.Client
	kms     *kms.Client
	iam     *iam.Client
	sts     *sts.Client

	streams map[string]string // name to ARN of those that are active
	created []resource        // in the order of creation
	keyARN  string
	roleARN string
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
		options = append(options, config.WithBaseEndpoint(f.endpoint),
			config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(harness.AccessKeyID, harness.SecretAccessKey, "")))
		if f.region == "" {
			options[0] = config.WithRegion(harness.Region)
		}
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
		streams: map[string]string{}, id: "000000000000",
	}
	identity, err := a.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	switch {
	case err == nil:
		a.id = aws.ToString(identity.Account)
	case !a.local():
		return nil, fmt.Errorf("the credentials do not work: %w", err)
	case !responded(err):
		return nil, fmt.Errorf("-endpoint: %w", err)
	}
	return a, nil
}

// policy is what the credentials need, as an IAM policy.
func policy(a *account) string {
	text, _ := json.MarshalIndent(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{
			map[string]any{"Effect": "Allow", "Action": "kinesis:*", "Resource": "arn:aws:kinesis:*:" + a.id + ":stream/" + prefix + "*"},
			map[string]any{"Effect": "Allow", "Action": []string{
				"iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:DeleteRole", "sts:AssumeRole"},
				"Resource": "arn:aws:iam::" + a.id + ":role/" + prefix + "*"},
			map[string]any{"Effect": "Allow", "Action": []string{
				"kms:CreateKey", "kms:TagResource", "kms:ScheduleKeyDeletion", "kms:GenerateDataKey", "kms:Decrypt",
				"kms:DescribeKey", "tag:GetResources", "sts:GetCallerIdentity"}, "Resource": "*"},
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

// removalLimit bounds the removal of one resource.
const removalLimit = 2 * time.Minute

// removeAll removes what was created, the newest first, and checks that no stream is
// left.
func (a *account) removeAll(ctx context.Context) error {
	created := slices.Clone(a.created)
	slices.Reverse(created)
	var errs []error
	for _, r := range created {
		ctx, cancel := context.WithTimeout(ctx, removalLimit)
		err := r.remove(ctx)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is not removed: %w", r.what, err))
			continue
		}
		fmt.Fprintln(a.out, "removed", r.what)
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
	a.ownsRole()
}

func (a *account) ownsStream(name string) {
	a.owns(resource{"stream " + name, func(ctx context.Context) error {
		for {
			_, err := a.kinesis.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name, EnforceConsumerDeletion: aws.Bool(true)})
			var missing *types.ResourceNotFoundException
			var busy *types.ResourceInUseException
			switch {
			case err == nil, errors.As(err, &missing):
				return nil
			case !errors.As(err, &busy):
				return err
			}
			// It is still being created or changed.
			if err := wait(ctx, 2*time.Second); err != nil {
				return err
			}
		}
	}})
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
	if _, err := a.kinesis.CreateStream(ctx, in); err != nil {
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
		if err := wait(ctx, time.Second); err != nil {
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
	out, err := a.kms.CreateKey(ctx, &kms.CreateKeyInput{
		Description: aws.String(a.prefix + ", can be deleted"),
		Tags:        []kmstypes.Tag{{TagKey: aws.String("Name"), TagValue: aws.String(a.prefix)}},
	})
	if err != nil {
		return "", a.unsupported(err)
	}
	id := aws.ToString(out.KeyMetadata.KeyId)
	a.owns(resource{"KMS key " + id, func(ctx context.Context) error {
		_, err := a.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
		return err
	}})
	a.keyARN = aws.ToString(out.KeyMetadata.Arn)
	return a.keyARN, nil
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
	if a.roleARN != "" {
		return a.roleARN, nil
	}
	trust := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"%s"}}}]}`, a.id, externalID)
	permissions := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:*","Resource":"arn:aws:kinesis:*:%s:stream/%s*"},{"Effect":"Allow","Action":["kms:GenerateDataKey","kms:Decrypt"],"Resource":"*"}]}`, a.id, a.prefix)
	name := a.prefix
	if a.local() {
		// The resource would be reported as not removed by an emulator without IAM.
		if _, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name}); code(err) != "NoSuchEntity" {
			return "", errUnavailable
		}
	}
	a.ownsRole()
	out, err := a.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
	if err != nil {
		return "", a.unsupported(err)
	}
	if _, err := a.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &name, PolicyName: &name, PolicyDocument: &permissions}); err != nil {
		return "", a.unsupported(err)
	}
	a.roleARN = aws.ToString(out.Role.Arn)
	// A new role takes some seconds to reach STS.
	for {
		if _, err := a.session(ctx, ""); err == nil || ctx.Err() != nil {
			return a.roleARN, err
		}
		if err := wait(ctx, 2*time.Second); err != nil {
			return "", err
		}
	}
}

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
