# Two commands do everything on a fresh Debian or Ubuntu machine with Rust.
#   make demo   set up, build the example image, boot it
#   make test   set up, run all tests
.PHONY: demo test lint bench

demo:
	scripts/install-packages demo
	cargo build --release --package karat
	scripts/demo

test:
	scripts/install-packages test
	scripts/test

# What must hold beside the tests: format, lints, docs, generated files, licences.
lint:
	scripts/lint

bench:
	scripts/install-packages bench
	cargo build --release --package karat
	benches/run
