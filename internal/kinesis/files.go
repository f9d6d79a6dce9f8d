package kinesis

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
)

// maxFileBytes limits a file with credentials, tokens or certificates. The largest
// usual one, a bundle of all public certificate authorities, has about 250 KB.
const maxFileBytes = 1 << 20

// readFile reads a regular file. It does not open a FIFO or a device, which could
// block, also not if one replaces the file between the check and the opening. Only
// /dev/null is an empty file, because variables that name it, and mounts of it, hide
// the files of AWS from a program.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(info, null) {
		return nil, nil
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	return content, nil
}

// sharedPath is the path of a shared file and its origin. Without one, it is the
// default path.
type sharedPath struct {
	path     string
	variable string // environment variable
	setting  bool   // Settings.CredentialsPath
}

// sharedPaths returns the paths of the shared configuration and credentials files.
func sharedPaths(s Settings) (configuration, credentials sharedPath) {
	configuration = sharedPath{path: config.DefaultSharedConfigFilename()}
	if name, path := firstSet("AWS_CONFIG_FILE"); path != "" {
		configuration = sharedPath{path: path, variable: name}
	}
	credentials = sharedPath{path: config.DefaultSharedCredentialsFilename()}
	if name, path := firstSet("AWS_SHARED_CREDENTIALS_FILE"); s.CredentialsPath != "" {
		credentials = sharedPath{path: s.CredentialsPath, setting: true}
	} else if path != "" {
		credentials = sharedPath{path: path, variable: name}
	}
	return configuration, credentials
}

func (p sharedPath) failed(err error) error {
	switch {
	case p.setting:
		return &SettingError{"CredentialsPath", err}
	case p.variable != "":
		return fmt.Errorf("environment variable %s: %w", p.variable, err)
	}
	return fmt.Errorf("shared AWS file: %w", err)
}

// sharedFile is the content of a shared file at one time. Close it.
type sharedFile struct {
	path    string
	content []byte
	copy    *os.File // what the SDK reads, see copyForSDK; nil: the file does not exist
}

// utf8BOM is the byte order mark that some editors write at the start of a file. The
// SDK would not find the first section after it.
var utf8BOM = []byte("\uFEFF")

// open reads the file. Like the SDK, it treats a missing file as empty, and also a
// file at the default path that it has no permission to read. Settings.CredentialsPath
// must exist: with other credentials, records could go to the stream of another account.
func (p sharedPath) open() (*sharedFile, error) {
	f := &sharedFile{path: p.path}
	content, err := readFile(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !p.setting, errors.Is(err, fs.ErrPermission) && !p.setting && p.variable == "":
		return f, nil
	case err != nil:
		return nil, p.failed(err)
	case bytes.IndexByte(content, 0) >= 0:
		return nil, p.failed(fmt.Errorf("%s is in UTF-16 or not text: save it as UTF-8", p.path))
	}
	f.content = bytes.TrimPrefix(content, utf8BOM)
	if f.copy, err = copyForSDK(p.path, f.content, len(f.content) < len(content)); err != nil {
		return nil, p.failed(fmt.Errorf("copy %s: %w", p.path, err))
	}
	return f, nil
}

// paths returns what the SDK opens.
func (f *sharedFile) paths() []string {
	if f.copy == nil {
		return []string{}
	}
	return []string{sdkPath(f)}
}

func (f *sharedFile) Close() {
	if f.copy != nil {
		_ = f.copy.Close()
	}
}

var (
	sectionLine  = regexp.MustCompile(`^[ \t]*\[[ \t]*(.+?)[ \t]*\]`)
	propertyLine = regexp.MustCompile(`^([\w.-]+)[ \t]*=[ \t]*(.*?)[ \t]*$`)
)

// section returns the properties of a section, nil if there is no such section. It
// reads them only to explain errors; the SDK parses the file.
func (f *sharedFile) section(name string) map[string]string {
	var found map[string]string
	inside := false
	for line := range strings.Lines(string(f.content)) {
		line = strings.TrimRight(line, "\r\n")
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			if inside = strings.Join(strings.Fields(m[1]), " ") == name; inside && found == nil {
				found = map[string]string{}
			}
		} else if m := propertyLine.FindStringSubmatch(line); m != nil && inside {
			found[strings.ToLower(m[1])] = m[2]
		}
	}
	return found
}

// checkProfile finds mistakes in a profile with which the SDK would ignore its keys and
// continue with another source of credentials, which may belong to another account.
func checkProfile(profile string, configFile, credentialsFile *sharedFile) error {
	if credentialsFile.section("profile "+profile) != nil {
		return fmt.Errorf("%s: [profile %s] is not a profile: write [%s] in a credentials file", credentialsFile.path, profile, profile)
	}
	names := map[*sharedFile]string{configFile: "profile " + profile, credentialsFile: profile}
	if profile == config.DefaultSharedConfigProfile && configFile.section(names[configFile]) == nil {
		names[configFile] = profile
	}
	for _, f := range []*sharedFile{configFile, credentialsFile} {
		found := f.section(names[f])
		for _, key := range []string{"aws_access_key_id", "aws_secret_access_key", "aws_session_token"} {
			if err := checkKey(found[key]); err != nil {
				return fmt.Errorf("%s: profile %s: %s %w", f.path, profile, key, err)
			}
		}
		if (found["aws_access_key_id"] == "") != (found["aws_secret_access_key"] == "") {
			return fmt.Errorf("%s: profile %s has only one of aws_access_key_id and aws_secret_access_key: set both, or neither", f.path, profile)
		}
	}
	return nil
}

// stat returns the state of each file, nil for a file that does not exist. It follows
// symbolic links, because Kubernetes replaces a mounted secret by changing a link.
func stat(files []string) []os.FileInfo {
	states := make([]os.FileInfo, len(files))
	for i, file := range files {
		if info, err := os.Stat(file); err == nil {
			states[i] = info
		}
	}
	return states
}

func changed(before, after []os.FileInfo) bool {
	for i := range after {
		if !sameState(before[i], after[i]) {
			return true
		}
	}
	return false
}

// settled reports whether each changed file is at least settleTime old. A file with
// a modification time in the future counts as settled, because its age is unknown.
func settled(before, after []os.FileInfo, now time.Time) bool {
	for i, info := range after {
		if info == nil || sameState(before[i], info) {
			continue
		}
		if age := now.Sub(info.ModTime()); 0 <= age && age < settleTime {
			return false
		}
	}
	return true
}

func sameState(a, b os.FileInfo) bool {
	// For os.SameFile, a file that does not exist is the same as no other.
	return a == nil && b == nil || os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// sharedFiles returns the files that the chain reads credentials from: none if the
// settings contain keys.
func sharedFiles(s Settings) []string {
	if s.KeyID != "" {
		return nil
	}
	configuration, credentials := sharedPaths(s)
	return []string{configuration.path, credentials.path}
}
