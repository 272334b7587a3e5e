# What there is to do:
#
#   make demo     build the program and show it at work against a Quay on loopback
#   make test     every test of all modules, with the race detector
#   make interop  compare with occystrap and pubtools-quay, on the same images
#   make interop-full
#                 a newer dockerd than Debian's: builds it, 10 minutes once
#   make lint     gofmt, go vet, staticcheck, the floors, doc comments, other systems
#   make fuzz     what reads layers, archives and filters, FUZZTIME each (10s)
#   make bench    this program beside its peers: 40 minutes of a quiet machine.
#                 SCENARIOS="bulk-org-small one-tar" TOOLS="floor:4 quaymaster:4"
#                 REPS=3 behind it do less; see bench/README.md
#   make microbench
#                 Go benchmarks of the hot paths
#   make build    bin/quaymaster, static
#   make set-up   what the tests need of the machine (Debian packages)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# e2e is a module of its own: its registries bring cloud SDKs. So is benchkit, with
# the libraries of peers.
MODULES := . internal/e2e bench/benchkit

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LINTER := .bin/golangci-lint

# The tar pass, the sniffing of codecs, the grammar of filters, whiteouts, archives,
# what daemons send, paths with placeholders, gzip, JSON, lists of platforms, journals,
# plans. make test runs the seeds of these and of all others. Go would shorten an input
# that it finds interesting for a minute, and try no other meanwhile.
FUZZ := layer/FuzzPass layer/FuzzOpen filter/FuzzParseSpec filetree/FuzzMerge \
	internal/tarfile/FuzzOpen backend/daemon/FuzzStream backend/FuzzTemplatePath \
	internal/gunzip/FuzzDeflate internal/journal/FuzzRead oci/FuzzStrictJSON index/FuzzMerge \
	publish/FuzzParsePlan
FUZZTIME ?= 10s

.PHONY: demo test interop interop-full lint fuzz bench microbench build set-up clean

# Go knows best what is out of date, so build always asks it.
build:
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X github.com/quaymaster/quaymaster/internal/cli.release=$(VERSION)' -o bin/quaymaster ./cmd/quaymaster

demo: build
	go run ./internal/demo bin/quaymaster

set-up:
	scripts/set-up.sh

test: set-up
	for module in $(MODULES); do go -C "$$module" test -race -shuffle=on -timeout=20m -v ./... | awk -f scripts/test.awk; done

# Nothing of this may be skipped, on no machine.
interop: set-up
	scripts/set-up-interop.sh
	CI=true go -C internal/e2e test -tags=interop -run='^TestInterop$$' -count=1 -timeout=10m ./...

# Not part of what runs on each change: dockerd takes minutes to build.
DOCKERD := .bin/dockerd-modern
interop-full: set-up $(DOCKERD)
	CI=true go -C internal/e2e test -v -tags=interop_full -run='^TestModernDocker$$' -count=1 -timeout=10m ./...

$(DOCKERD):
	GOBIN=$(CURDIR)/.bin/moby go install github.com/moby/moby/v2/cmd/dockerd@v2.0.0-beta.24
	mv .bin/moby/dockerd $@

fuzz:
	for target in $(FUZZ); do go test -run='^$$' -fuzz="^$${target##*/}\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=10x "./$${target%/*}"; done

# Each call has results of its own, beside the last in $BENCH/results.
SCENARIOS ?=
TOOLS ?=
REPS ?= 5
bench: build
	bench/setup.sh
	bench/gen.sh
	QUAYMASTER=$(CURDIR)/bin/quaymaster REPS=$(REPS) bench/run.sh -n -r $(if $(TOOLS),-t "$(TOOLS)") $(SCENARIOS)

microbench:
	for module in $(MODULES); do go -C "$$module" test -run='^$$' -bench=. -benchmem ./...; done

lint: $(LINTER)
	for module in $(MODULES); do (cd "$$module" && $(CURDIR)/$(LINTER) run --config $(CURDIR)/.golangci.yml ./...); done
	for os in darwin freebsd; do CGO_ENABLED=0 GOOS=$$os go build -o /dev/null ./cmd/quaymaster; done

# The linter has a module of its own, so that it pins its libraries and not ours.
$(LINTER): tools/go.mod tools/go.sum
	go build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

clean:
	rm -rf bin .bin
