# SPDX-License-Identifier: BSD-3-Clause
# A thin front: each target runs commands that can be typed.

BUILD := build
# Where DPDK is, so that what is installed lies beside it.
MESON = meson setup $(BUILD) --prefix="$$(pkg-config --variable=prefix libdpdk)" \
	--libdir="$$(pkg-config --variable=libdir libdpdk)"
# The tests and the plugin share what cargo has compiled.
export CARGO_TARGET_DIR := $(CURDIR)/$(BUILD)/cargo
BUILT = echo "built for DPDK $$(pkg-config --modversion libdpdk) with Rust $$(rustc --version | cut -d ' ' -f 2):" \
	"$$(realpath --relative-to=. $(BUILD)/librte_net_vdev_netvsc.so) and $(BUILD)/librte_net_vdev_netvsc.a"
# For a command that would go on for minutes after make was killed.
ENDS_WITH_MAKE := setpriv --pdeathsig KILL

.PHONY: all
all: packages ## Build the plugin and the static library
	@test -f $(BUILD)/build.ninja || $(MESON)
	ninja -C $(BUILD)
	@$(BUILT)

.PHONY: packages
packages:
	@tools/packages.sh

.PHONY: with-tests
with-tests:
	@tools/packages.sh check
	@$(MAKE) --no-print-directory build-with-tests

.PHONY: build-with-tests
build-with-tests:
	@if test -f $(BUILD)/build.ninja; then meson configure $(BUILD) -Dtests=true; else $(MESON) -Dtests=true; fi
	ninja -C $(BUILD)
	@$(BUILT)

.PHONY: demo
demo: ## Watch packets follow a VF that comes, goes and comes back elsewhere (root)
	@$(ENDS_WITH_MAKE) tests/demo.sh

.PHONY: check
check: ## Format, lints and every test; takes DPDK, and WITHOUT="guest matrix" (root)
	@$(ENDS_WITH_MAKE) tests/check.sh $(WITHOUT)

.PHONY: applications
applications: with-tests ## Open vSwitch, DPDK's examples and tools with the driver, and a table of what passed (root)
	@$(ENDS_WITH_MAKE) tests/applications.sh

.PHONY: guest
guest: with-tests ## The default configuration, and pairs as on Hyper-V and on KVM, in QEMU guests (root)
	@tools/packages.sh guest
	tests/guest/image.sh $(BUILD)
	tests/guest/image.sh $(BUILD) bullseye
	$(ENDS_WITH_MAKE) cargo run --quiet --locked --example guest -- all
	$(ENDS_WITH_MAKE) cargo test --locked --test guest_hyperv --test guest_kvm --test guest_azure -- \
		--ignored --test-threads=2

.PHONY: soak
soak: with-tests ## Have instances, links and VFs come and go at random for an hour, takes MINUTES and SEED; then fuzz and mutants (root)
	$(ENDS_WITH_MAKE) tests/soak.sh $(MINUTES)
	$(MAKE) --no-print-directory fuzz MINUTES=10
	$(MAKE) --no-print-directory mutants

.PHONY: fuzz
fuzz: packages ## Make up what the driver reads from outside, ten minutes for each of four targets; takes MINUTES, TARGET
	$(ENDS_WITH_MAKE) tests/fuzz.sh $(or $(MINUTES),10) $(TARGET)

.PHONY: mutants
mutants: packages ## Change the rooms that decide, one line at a time, and see whether the unit tests notice; takes hours
	$(ENDS_WITH_MAKE) tests/mutants.sh

.PHONY: faults
faults: with-tests ## Have each call of the plugin fail in each phase, in half an hour; takes PHASE, CALL and SEED (root)
	FAULTS_PHASE="$(PHASE)" FAULTS_CALL="$(CALL)" FAULTS_SEED="$(SEED)" $(ENDS_WITH_MAKE) \
		cargo test --quiet --locked --test failing_calls each_call_fails_in_each_phase -- --ignored --nocapture

.PHONY: bench
bench: with-tests ## Measure this driver and the C driver side by side, into docs/benchmarks.md; takes 100 minutes (root)
	@tools/packages.sh bench
	cargo run --quiet --locked --release --example bench

.PHONY: overlay
overlay: ## Put the driver in the place of the C driver in the DPDK tree that DPDK= names
	@tools/overlay.sh "$(DPDK)"

.PHONY: overlay-check
overlay-check: ## Try that with a copy of the DPDK tree that DPDK= names (root)
	@tests/overlay.sh "$(DPDK)"

.PHONY: matrix
matrix: ## Build and test with the DPDK of other Debian releases, each in a root file system of its own (root)
	@tests/matrix.sh

.PHONY: install
install: all ## Install where DPDK's own files are; takes DESTDIR
	meson install -C $(BUILD)

.PHONY: uninstall
uninstall: ## Undo what install did; takes DESTDIR
	@tools/install.sh undo $(BUILD)

.PHONY: deb
deb: ## Make a Debian package of the plugin, which takes the place of the C driver's
	@tools/packages.sh deb
	rm -rf $(BUILD)/deb
	mkdir -p $(BUILD)/deb/source
	tar -c --exclude=./.git --exclude=./target --exclude=./$(BUILD) . | tar -x -C $(BUILD)/deb/source
	cd $(BUILD)/deb/source && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps

.PHONY: clean
clean: ## Remove all that was built; what uninstall needs stays
	@mkdir -p $(BUILD)
	find $(BUILD) -mindepth 1 -maxdepth 1 ! -name 'installed*' -exec rm -rf {} +
	@rmdir --ignore-fail-on-non-empty $(BUILD)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile
