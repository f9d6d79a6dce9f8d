package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is what a release contains under a name.
type file struct {
	data []byte
	exec bool
}

func (f file) mode() int64 {
	if f.exec {
		return 0o755
	}
	return 0o644
}

// tree is the files of an archive by slash-separated path.
type tree map[string]file

// read adds a file of the disk. Only its name and contents matter, because its
// mode and times depend on the user's umask and on when it was checked out.
func (t tree) read(name, from string, exec bool) error {
	data, err := os.ReadFile(from)
	t[name] = file{data, exec}
	return err
}

// readFolder adds the files of a folder, without hidden files and the backup
// copies of editors.
func (t tree) readFolder(name, from string) error {
	return filepath.WalkDir(from, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if p != from && strings.HasPrefix(base, ".") || strings.HasSuffix(base, "~") {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		relative, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		return t.read(path.Join(name, filepath.ToSlash(relative)), p, false)
	})
}

// write writes the tree to a folder of the disk, which must be empty. Modes and
// times are fixed.
func (t tree) write(folder string, date time.Time) error {
	for name, f := range t {
		p := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, f.data, fs.FileMode(f.mode())); err != nil {
			return err
		}
	}
	return filepath.WalkDir(folder, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o755)
		if !entry.IsDir() {
			relative, _ := filepath.Rel(folder, p)
			mode = fs.FileMode(t[filepath.ToSlash(relative)].mode())
		}
		// The umask has narrowed what was created.
		if err := os.Chmod(p, mode); err != nil {
			return err
		}
		return os.Chtimes(p, date, date)
	})
}

// writeTarGz writes the tree as a compressed tar archive below a top folder. The
// bytes depend on the names, the contents and the date only: entries are
// sorted, belong to root, and have fixed modes; the gzip header has no name and
// no time.
func (t tree) writeTarGz(w io.Writer, top string, date time.Time) error {
	zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zipped)
	header := func(h tar.Header) error {
		h.ModTime, h.Format = date, tar.FormatUSTAR
		h.Uname, h.Gname = "root", "root"
		return archive.WriteHeader(&h)
	}
	folders := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		full := path.Join(top, name)
		for i := range len(full) {
			if folder := full[:i+1]; full[i] == '/' && !folders[folder] {
				folders[folder] = true
				if err := header(tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755}); err != nil {
					return err
				}
			}
		}
		f := t[name]
		if err := header(tar.Header{Typeflag: tar.TypeReg, Name: full, Mode: f.mode(), Size: int64(len(f.data))}); err != nil {
			return err
		}
		if _, err := archive.Write(f.data); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}

// writeZip writes the tree as a zip file below a top folder. The bytes depend on
// what those of writeTarGz do.
func (t tree) writeZip(w io.Writer, top string, date time.Time) error {
	archive := zip.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		f, err := archive.CreateHeader(&zip.FileHeader{Name: path.Join(top, name), Method: zip.Deflate, Modified: date.UTC()})
		if err != nil {
			return err
		}
		if _, err := f.Write(t[name].data); err != nil {
			return err
		}
	}
	return archive.Close()
}

// gzipped compresses data without a name or a time in the header.
func gzipped(data string) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	// Writes to a bytes.Buffer do not fail.
	_, _ = io.WriteString(w, data)
	_ = w.Close()
	return out.Bytes()
}

// checksums returns the lines that `sha256sum --check` reads, sorted by name, of
// the files in a folder.
func checksums(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, entry := range entries {
		if !entry.Type().IsRegular() || entry.Name() == sumsName {
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(data), entry.Name())
	}
	return lines.String(), nil
}
