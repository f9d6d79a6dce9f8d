// Package deploy tests the files of deploy/, compose.yaml and the Dockerfile.
//
// The tests that need a tool skip aloud without it. `make deploy-check` installs
// those that package registries have, and lists the others.
package deploy

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/test/kit/harness"
)

var update = flag.Bool("update", false, "rewrite deploy/kubernetes/manifests.yaml, and the causes in deploy/prometheus/rules.yaml")

// toolDeadline bounds a run of a tool.
const toolDeadline = 5 * time.Minute

// root returns the path of a file of the module.
func root(t *testing.T, path ...string) string {
	t.Helper()
	dir, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{dir}, path...)...)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(root(t, path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tool returns a command that runs in the module, or skips the test.
func tool(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: %v: `make deploy-check` installs it or says where it is from", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), toolDeadline)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = root(t)
	return cmd
}

// run fails the test if the command fails, and returns its output.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// write writes a file for a tool and returns its path.
func write(t *testing.T, text string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestDockerfile_CopiesPackages: the build context of the image has every package
// of this module that the plugin and kplcat need.
func TestDockerfile_CopiesPackages(t *testing.T) {
	copied := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^COPY (.*) \S+$`).FindAllStringSubmatch(read(t, "Dockerfile"), -1) {
		for name := range strings.FieldsSeq(m[1]) {
			copied[name] = true
		}
	}
	allowed := strings.Split(read(t, ".dockerignore"), "\n")
	list := exec.Command("go", "list", "-deps", "-f", "{{if and (not .Standard) .Module.Main}}{{.ImportPath}}{{end}}", ".", "./cmd/kplcat")
	list.Dir = root(t)
	for path := range strings.FieldsSeq(run(t, list)) {
		_, folder, nested := strings.Cut(path, "/")
		if !nested {
			continue // the files of the root are listed one by one
		}
		folder, _, _ = strings.Cut(folder, "/")
		if !copied[folder] {
			t.Errorf("the Dockerfile does not copy %s, which has %s", folder, path)
		}
		if !slices.Contains(allowed, "!"+folder) {
			t.Errorf(".dockerignore leaves out %s, which has %s", folder, path)
		}
	}
}

// TestStopTimeouts_AboveGrace: nothing kills the engine while it waits for its
// flushes.
func TestStopTimeouts_AboveGrace(t *testing.T) {
	const grace = 35
	for _, c := range []struct{ file, setting string }{
		{"compose.yaml", `stop_grace_period: (\d+)s`},
		{"deploy/kubernetes/values.yaml", `terminationGracePeriodSeconds: (\d+)`},
		{"deploy/kubernetes/manifests.yaml", `terminationGracePeriodSeconds: (\d+)`},
		{"deploy/ecs/template.yaml", `StopTimeout: (\d+)`},
		{"deploy/systemd/kinesis-agg.conf", `TimeoutStopSec=(\d+)`},
	} {
		m := regexp.MustCompile(`(?m)^ *` + c.setting + `$`).FindStringSubmatch(read(t, c.file))
		if m == nil {
			t.Errorf("%s: no line matches %s", c.file, c.setting)
			continue
		}
		if seconds, _ := strconv.Atoi(m[1]); seconds < grace+5 {
			t.Errorf("%s: %s is not above grace, %d s", c.file, m[0], grace)
		}
	}
}

// TestChart_Renders: manifests.yaml is what the official chart makes of
// values.yaml.
func TestChart_Renders(t *testing.T) {
	chart := os.Getenv("FLUENT_BIT_CHART")
	if chart == "" {
		t.Skip("SKIPPED: set FLUENT_BIT_CHART to the folder charts/fluent-bit of https://github.com/fluent/helm-charts")
	}
	helm := tool(t, "helm", "template", "fluent-bit", chart, "--namespace", "logging", "--kube-version", "1.33",
		"--values", "deploy/kubernetes/values.yaml")
	const head = "# The chart fluent-bit of https://github.com/fluent/helm-charts, rendered with\n" +
		"# values.yaml by test/deploy. Do not edit: docs/kubernetes.md says how to render it.\n"
	got := head + run(t, helm)
	const file = "deploy/kubernetes/manifests.yaml"
	if *update {
		write(t, got, root(t, file))
	}
	if got != read(t, file) {
		t.Errorf("%s is out of date: run this test with -update", file)
	}
}

// TestManifests_Valid checks the manifests with the API schemas of Kubernetes.
func TestManifests_Valid(t *testing.T) {
	for _, version := range []string{"1.25.0", "1.33.0", "1.37.0"} {
		run(t, tool(t, "kubernetes-validate", "--strict", "--kubernetes-version", version, "deploy/kubernetes/manifests.yaml"))
	}
}

// TestCloudFormation_Valid checks the templates with the resource schemas of
// CloudFormation.
func TestCloudFormation_Valid(t *testing.T) {
	run(t, tool(t, "cfn-lint", "--include-checks", "I", "--", "deploy/ecs/template.yaml", "deploy/cloudformation/stream.yaml"))
}

// TestSystemd_Verify checks the drop-in together with the unit of the packages.
func TestSystemd_Verify(t *testing.T) {
	dir := t.TempDir()
	// Fluent Bit's init/systemd.in as its packages install it.
	write(t, `[Unit]
Description=Fluent Bit
Requires=network.target
After=network.target

[Service]
Type=simple
EnvironmentFile=-/etc/sysconfig/fluent-bit
EnvironmentFile=-/etc/default/fluent-bit
ExecStart=/opt/fluent-bit/bin/fluent-bit -c //etc/fluent-bit/fluent-bit.conf
Restart=always

[Install]
WantedBy=multi-user.target
`, dir, "usr/lib/systemd/system/fluent-bit.service")
	if err := os.Chmod(write(t, "#!/bin/sh\n", dir, "opt/fluent-bit/bin/fluent-bit"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"network", "basic", "sysinit", "shutdown", "multi-user"} {
		write(t, "[Unit]\nDescription="+name+"\n", dir, "usr/lib/systemd/system", name+".target")
	}
	write(t, "[Unit]\nDescription=root\n", dir, "usr/lib/systemd/system/-.slice")
	write(t, "[Unit]\nDescription=system\n", dir, "usr/lib/systemd/system/system.slice")
	write(t, read(t, "deploy/systemd/kinesis-agg.conf"), dir, "etc/systemd/system/fluent-bit.service.d/kinesis-agg.conf")
	// It reports unknown settings, but succeeds.
	if out := run(t, tool(t, "systemd-analyze", "verify", "--man=no", "--root="+dir, "fluent-bit.service")); out != "" {
		t.Error(out)
	}
}

// TestRules_Promtool runs the tests of the alerts.
func TestRules_Promtool(t *testing.T) {
	run(t, tool(t, "promtool", "check", "rules", "deploy/prometheus/rules.yaml"))
	run(t, tool(t, "promtool", "test", "rules", "deploy/prometheus/rules_test.yaml"))
}

// queries returns the queries of the dashboard.
func queries(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "deploy/grafana/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var all []string
	ids := map[int]bool{}
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] {
			t.Errorf("two panels have the ID %d", panel.ID)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			all = append(all, strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$output", ".*").Replace(target.Expr))
		}
	}
	if len(all) == 0 {
		t.Fatal("the dashboard has no query")
	}
	return all
}

// TestDashboard_Queries lets Prometheus parse the queries of the dashboard, as
// rules.
func TestDashboard_Queries(t *testing.T) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for n, query := range queries(t) {
		rules = append(rules, rule{fmt.Sprintf("panel:query:%d", n), query})
	}
	// JSON is YAML.
	file, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, tool(t, "promtool", "check", "rules", write(t, string(file), t.TempDir(), "rules.yaml")))
}

// TestMetrics_Exist: alerts and dashboard use only metrics, causes and labels that
// exist.
func TestMetrics_Exist(t *testing.T) {
	exist := map[string]bool{
		// Of the engine.
		"fluentbit_input_records_total": true, "fluentbit_output_retries_total": true,
		"fluentbit_output_retries_failed_total": true, "fluentbit_output_dropped_records_total": true,
		"fluentbit_storage_chunks": true, "fluentbit_storage_fs_chunks_down": true,
	}
	for _, m := range regexp.MustCompile(`"([a-z_]+_(?:total|seconds))"`).FindAllStringSubmatch(read(t, "internal/plugin/metrics.go"), -1) {
		name := "fluentbit_kinesis_agg_" + m[1]
		exist[name] = true
		if strings.HasSuffix(name, "_seconds") {
			exist[name+"_bucket"], exist[name+"_count"] = true, true
		}
	}
	text := read(t, "deploy/prometheus/rules.yaml") + strings.Join(queries(t), "\n")
	for _, name := range regexp.MustCompile(`fluentbit_\w+`).FindAllString(text, -1) {
		if !exist[name] {
			t.Errorf("there is no metric %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`cause=~?"([^"]*)"`).FindAllStringSubmatch(text, -1) {
		for cause := range strings.SplitSeq(m[1], "|") {
			if !slices.Contains(kinesis.CauseNames(), cause) {
				t.Errorf("there is no cause %s", cause)
			}
		}
	}
}

// TestRules_Misconfigured: the alert about causes that an operator must fix names all
// of them, and no other. With -update it rewrites the alert.
func TestRules_Misconfigured(t *testing.T) {
	var causes []string
	for _, c := range kinesis.Causes() {
		if c.Operator {
			causes = append(causes, c.Name)
		}
	}
	const file = "deploy/prometheus/rules.yaml"
	list, want := regexp.MustCompile(`cause=~"[^"]*"`), `cause=~"`+strings.Join(causes, "|")+`"`
	text := read(t, file)
	switch got := list.FindString(text); {
	case got == want:
	case got == "":
		t.Fatal("no alert selects causes")
	case !*update:
		t.Errorf("the alert has %s, want %s: run `make docs`", got, want)
	default:
		write(t, strings.Replace(text, got, want, 1), root(t, file))
	}
}

// TestIAM_Least: a producer may do what the plugin needs and no more, and every
// policy is one.
func TestIAM_Least(t *testing.T) {
	files, err := filepath.Glob(root(t, "deploy/iam/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("deploy/iam has no policy", err)
	}
	actions := map[string]string{}
	for _, file := range files {
		var policy struct {
			Version   string
			Statement []struct {
				Effect string
				Action any
			}
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &policy)
		}
		if err != nil || policy.Version != "2012-10-17" || len(policy.Statement) == 0 {
			t.Errorf("%s is not a policy: %v", file, err)
		}
		for _, s := range policy.Statement {
			actions[filepath.Base(file)] += fmt.Sprint(s.Action)
		}
	}
	for file, want := range map[string]string{
		"producer.json":              "kinesis:PutRecord",
		"producer-check-stream.json": "[kinesis:PutRecord kinesis:DescribeStreamSummary]",
		"producer-kms.json":          "kms:GenerateDataKey",
		"assume-role.json":           "sts:AssumeRole",
		"stream-policy.json":         "kinesis:PutRecord",
		"consumer-kms.json":          "kms:Decrypt",
	} {
		if actions[file] != want {
			t.Errorf("%s allows %q, want %q", file, actions[file], want)
		}
	}
}

// TestIAM_Parliament checks actions, resources and conditions. It does not know
// trust and key policies, which have no resource, or only that one.
func TestIAM_Parliament(t *testing.T) {
	files, err := filepath.Glob(root(t, "deploy/iam/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "trust-") || name == "key-policy.json" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out := run(t, tool(t, "parliament", "--string", string(text))); out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestTerraform_Valid checks the example with the schemas of the provider.
func TestTerraform_Valid(t *testing.T) {
	plugins := os.Getenv("TERRAFORM_PLUGINS")
	if plugins == "" {
		t.Skip("SKIPPED: set TERRAFORM_PLUGINS to a folder with the provider hashicorp/aws, as `terraform providers mirror` makes it")
	}
	dir := t.TempDir()
	for _, name := range []string{"main.tf", "variables.tf", "outputs.tf"} {
		write(t, read(t, "deploy/terraform", name), dir, name)
	}
	mirror := write(t, fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", plugins), dir, "terraformrc")
	for _, args := range [][]string{
		{"fmt", "-check", "-diff"}, {"init", "-backend=false", "-input=false"}, {"validate"},
	} {
		cmd := tool(t, "terraform", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+mirror)
		run(t, cmd)
	}
}

// TestCompose_Valid checks compose.yaml with the library of Docker Compose.
func TestCompose_Valid(t *testing.T) {
	run(t, tool(t, "compose-go", "compose.yaml"))
}

// TestCompose_RecordsFlow runs the processes of compose.yaml without containers:
// kplcat prints what the engine sends.
func TestCompose_RecordsFlow(t *testing.T) {
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	plugin := os.Getenv("OUT_KINESIS_AGG_SO")
	if plugin == "" {
		t.Skip("SKIPPED: set OUT_KINESIS_AGG_SO to the library")
	}
	if !filepath.IsAbs(plugin) {
		plugin = root(t, plugin)
	}
	readers, err := harness.ReadersDir(root(t))
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	server, err := harness.StartKinesis(t.Context(), readers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := server.CreateStream(t.Context(), "logs", 2); err != nil {
		t.Fatal(err)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plugins := write(t, "[PLUGINS]\n    Path "+plugin+"\n", dir, "plugins.conf")
	file := write(t, strings.NewReplacer(
		"/fluent-bit/etc/plugins.conf", plugins,
		"/fluent-bit/storage", dir,
		"http://kinesis:4568", server.Endpoint,
		"http_port                2020", fmt.Sprintf("http_port %d", port),
		" flush                    2", " flush 0.2",
	).Replace(read(t, "deploy/compose/fluent-bit.conf")), dir, "fluent-bit.conf")
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": harness.Region} {
		t.Setenv(name, value)
	}
	engine, err := harness.StartFluentBitWith(path, dir, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Kill)
	kplcat := tool(t, "go", "run", "./cmd/kplcat", "logs", "--endpoint", server.Endpoint, "--follow", "--limit", "5")
	out, err := kplcat.Output()
	if err != nil {
		t.Fatalf("kplcat: %v\n%s", err, engine.Log())
	}
	if n := strings.Count(string(out), `"message":"hello from Fluent Bit"`); n != 5 {
		t.Errorf("kplcat printed %d of 5 records:\n%s", n, out)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
}
