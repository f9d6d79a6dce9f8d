package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is a Go module whose packages a release contains.
type module struct {
	Path, Version, Dir string
}

// zstdModule contains the C source of libzstd.
const zstdModule = "github.com/DataDog/zstd"

// modules returns the modules of the packages that the plugin and the commands are
// built from, sorted by path, without this module.
func (b *builder) modules(t target) ([]module, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Module", "-tags", t.tags(), ".")
	for _, command := range commands {
		cmd.Args = append(cmd.Args, "./cmd/"+command)
	}
	cmd.Env = b.env(t)
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	byPath := map[string]module{}
	for list := json.NewDecoder(strings.NewReader(out)); ; {
		var pkg struct{ Module *module }
		if err := list.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if pkg.Module != nil && pkg.Module.Path != b.module {
			byPath[pkg.Module.Path] = *pkg.Module
		}
	}
	var all []module
	for _, m := range byPath {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

var licenseFile = regexp.MustCompile(`(?i)^(.*[-_.])?(licen[cs]e|copying|notice|patents)([-_.].*)?$`)

// licenses returns the licenses and notices of everything that a release
// contains, which must be passed on with it. A module without a license is an
// error.
func (b *builder) licenses(t target) ([]byte, error) {
	modules, err := b.modules(t)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "env", "GOROOT")
	cmd.Env = b.env(t)
	goroot, err := output(cmd)
	if err != nil {
		return nil, err
	}
	modules = append(modules, module{"The Go standard library", goToolchain, strings.TrimSpace(goroot)})

	var text bytes.Buffer
	fmt.Fprintf(&text, "%s %s contains the software below. Its own license is in the file LICENSE,\nor in the file copyright of a package.\n", name, b.version)
	for _, m := range modules {
		entries, err := os.ReadDir(m.Dir)
		if err != nil {
			return nil, err
		}
		found := false
		for _, entry := range entries {
			if !entry.Type().IsRegular() || !licenseFile.MatchString(entry.Name()) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(m.Dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			found = true
			fmt.Fprintf(&text, "\n%s\n%s %s: %s\n\n%s\n", strings.Repeat("=", 80), m.Path, m.Version, entry.Name(), bytes.TrimSpace(data))
		}
		if !found {
			return nil, fmt.Errorf("no license in the module %s %s", m.Path, m.Version)
		}
	}
	return text.Bytes(), nil
}

var zstdVersion = regexp.MustCompile(`(?m)^#define ZSTD_VERSION_(?:MAJOR|MINOR|RELEASE)\s+(\d+)`)

// bom returns the software bill of materials of a library, in the format
// CycloneDX: the modules in it, the Go standard library, and libzstd, which
// cyclonedx-gomod does not know because it is C.
func (b *builder) bom(t target, library string) ([]byte, error) {
	// cyclonedx-gomod reads executable files only.
	if err := os.Chmod(library, 0o755); err != nil {
		return nil, err
	}
	words := append(strings.Fields(b.cyclonedx), "bin", "-json", "-noserial", "-notimestamp", "-std", "-version", "v"+b.version, library)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	modules, err := b.modules(t)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(modules, func(m module) bool { return m.Path == zstdModule })
	if i < 0 {
		return nil, fmt.Errorf("no module %s among the dependencies: if libzstd is from elsewhere now, change packaging/dist/components.go", zstdModule)
	}
	header, err := os.ReadFile(filepath.Join(modules[i].Dir, "zstd.h"))
	if err != nil {
		return nil, err
	}
	var version []string
	for _, m := range zstdVersion.FindAllSubmatch(header, -1) {
		version = append(version, string(m[1]))
	}
	if len(version) != 3 {
		return nil, fmt.Errorf("%s/zstd.h does not tell the version of libzstd", zstdModule)
	}
	return completeBOM([]byte(out), strings.Join(version, "."))
}

// completeBOM adds libzstd to a bill of materials, and removes the checksums of
// the tool that wrote it, which differ from machine to machine.
func completeBOM(data []byte, zstd string) ([]byte, error) {
	var bom map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&bom); err != nil {
		return nil, fmt.Errorf("the list of components is not JSON: %w", err)
	}
	metadata, _ := bom["metadata"].(map[string]any)
	tools, _ := metadata["tools"].([]any)
	components, _ := bom["components"].([]any)
	if len(tools) == 0 || len(components) == 0 {
		return nil, errors.New("the list of components has no tools or no components")
	}
	for _, tool := range tools {
		if fields, ok := tool.(map[string]any); ok {
			delete(fields, "hashes")
		}
	}
	purl := "pkg:github/facebook/zstd@v" + zstd
	bom["components"] = append(components, map[string]any{
		"bom-ref": purl, "purl": purl, "type": "library", "name": "zstd", "version": zstd, "scope": "required",
		"cpe":         "cpe:2.3:a:facebook:zstandard:" + zstd + ":*:*:*:*:*:*:*",
		"description": "C library, compiled in by " + zstdModule,
	})
	out, err := json.MarshalIndent(bom, "", "  ")
	return append(out, '\n'), err
}
