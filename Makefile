# SPDX-License-Identifier: Apache-2.0
# What people call: `make run`, `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
RELEASE := .build-release

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

deps: ## install what is missing (Debian packages; checks for Swift)
	@scripts/install-deps

build: deps ## a debug build
	@scripts/build debug

release: deps ## the programs as they are shipped, in .build-release/bin
	@scripts/build release

run: release ## a daemon with a function deployed and invoked; serves on 127.0.0.1:9000 until Ctrl-C
	@scripts/run

install: release ## install below PREFIX (/usr/local), with DESTDIR in front; then `fn doctor`
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install

uninstall: ## remove what `make install` installed; a changed configuration and /var/lib/fn stay
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install --remove

deb: release ## a Debian package, in .build-deb
	@scripts/build-deb

test: ## everything CI runs: unit tests, then system tests on a real cgroup v2 kernel
	@scripts/test

test-unit: deps ## the unit tests alone: no root needed
	@swift test --disable-xctest

test-system: release ## the system tests alone
	@scripts/test-system

test-packaging: release ## installing, the package and the container image, on this host; needs root
	@scripts/test-packaging

test-page: release ## the page at / in a browser without a screen; on this host
	@scripts/test-page

test-failpoints: release ## the daemon killed, and refused, at every step of a launch
	@scripts/test-failpoints

bench: release bench-warm ## the reclaimer's promises as ratios, in the long form (an hour under emulation)
	@EBB_LONG=1 EBB_PYTEST=-s EBB_GUEST_TIMEOUT=14400 scripts/test-system test_claims.py

bench-warm: release ## what a warm call costs beside other servers, in the long form; on the host itself
	@EBB_LONG=1 scripts/bench-warm test_warm_path.py

soak: release ## ten thousand random edits of living sandboxes that race with their requests; a million calls; a hundred thousand cold starts
	@EBB_LONG=1 scripts/bench-warm test_soak.py test_cold_starts.py
	@EBB_LONG=1 EBB_PYTEST=-s EBB_GUEST_TIMEOUT=14400 scripts/test-system test_churn.py

fmt: ## format the Swift sources
	@swift format --in-place --recursive Sources Tests Package.swift

lint: ## check format and shell scripts
	@swift format lint --strict --recursive Sources Tests Package.swift
	@shellcheck $$(grep -lE "^.!.*sh$$" scripts/* packaging/debian/*)

clean: ## remove what was built here
	@rm -rf .build .build-*

.PHONY: help deps build release run install uninstall deb test-packaging test-page test-failpoints test test-unit test-system bench bench-warm soak fmt lint clean
