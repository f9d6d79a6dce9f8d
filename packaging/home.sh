#!/bin/sh
# Writes the names of home.env into the files that cannot read it: the module path
# into go.mod, all imports and the generated code, and the name of the image into
# the values of the Helm chart and the manifests.
set -eu
cd "$(dirname "$0")/.."
value() { sed -n "s/^$1=//p" packaging/home.env; }
name=$(value NAME) image=$(value IMAGE)

case $name in
example.com/*) echo "home: set NAME and IMAGE in packaging/home.env first" >&2; exit 1 ;;
esac
module=$(sed -n 's/^module //p' go.mod)
if [ "$module" != "$name" ]; then
	go mod edit -module "$name"
	git grep -lz "\"$module/[a-z]" -- '*.go' '*.proto' | xargs -0r sed -i "s|\"$module/\([a-z]\)|\"$name/\1|"
	# Modules in subfolders, which replace this one by its folder.
	git ls-files '*/go.mod' | xargs -r sed -i "s#^\(\t\|replace \)$module #\1$name #; s#^module $module/#module $name/#"
	# shellcheck disable=SC2046 # names of Go files have no spaces
	gofmt -w $(git ls-files '*.go')
	make proto
fi
before=$(sed -n 's/^  repository: //p' deploy/kubernetes/values.yaml)
sed -i "s|^  repository: .*|  repository: $image|" deploy/kubernetes/values.yaml
sed -i "s|image: \"$before:|image: \"$image:|" deploy/kubernetes/manifests.yaml
