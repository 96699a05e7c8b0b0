# SPDX-License-Identifier: GPL-2.0
#
# The verbs of this tree; `make help` lists them.  What they do is in tools/.
#
# KDIR, MO, V, KSRC, RUSTC, LLVM, BINDGEN, INSTALL_MOD_PATH, EXPERIMENTAL and SUITES reach the tools
# through the environment.  Recipes start with `+` so that -j reaches the kernel's make.

KERNEL ?= release

$(foreach v,KDIR MO V KSRC RUSTC HOSTRUSTC RUSTDOC RUSTFMT LLVM BINDGEN INSTALL_MOD_PATH \
	EXPERIMENTAL, \
	$(if $(filter undefined,$(origin $(v))),,$(eval export $(v))))
unexport MAKEOVERRIDES

GUEST := tools/guest/guest
verbs := help doctor deps kernel guest-root modules run check check-long bench clippy rustfmt \
	rustfmtcheck rustdoc rust-analyzer modules_install uninstall clean distclean

.PHONY: $(verbs)
.DEFAULT_GOAL := modules

help:
	@echo 'Build and run:'
	@echo '  modules          the modules (default), for the kernel built in KDIR=, else for our guest kernel'
	@echo '  run              boot a guest on the Rust stack: a shell on a terminal, else a demonstration'
	@echo '  check            all tests, or some: SUITES="host style kunit guest hostile"'
	@echo '  check-long       the same with long fuzz runs and many repetitions'
	@echo '  bench            what Rust costs beside C, in instructions, kicks and interrupts: build/bench'
	@echo 'Code:'
	@echo '  clippy           the modules under clippy, warnings are errors'
	@echo '  rustfmt          format the Rust files (rustfmtcheck: only look)'
	@echo '  rustdoc          documentation of the crates'
	@echo '  rust-analyzer    rust-project.json for editors'
	@echo 'Machine:'
	@echo '  doctor           what is missing on this machine'
	@echo '  deps             install it'
	@echo '  kernel           both guest kernels, release and debug (Debian source, or KSRC=DIR)'
	@echo '  guest-root       the root file system for guests with a full userspace'
	@echo 'Install:'
	@echo '  modules_install  into updates/ of the kernel'\''s modules (INSTALL_MOD_PATH=); EXPERIMENTAL=1: virtio_net, virtio_balloon too'
	@echo '  uninstall        undo that'
	@echo '  clean            remove what was built for the modules'
	@echo '  distclean        remove build/ (the cache with kernels and guest root stays)'
	@echo
	@echo 'KDIR=DIR   a built kernel 7.3 with CONFIG_RUST=y, in-tree or O='
	@echo 'MO=DIR     output directory of the modules (default: build/<kernel>)'
	@echo 'KERNEL=    release (default) or debug: which guest kernel modules and run use'
	@echo 'V=1, -j N  as in the kernel'

doctor:
	@tools/doctor

deps:
	@tools/doctor --install

kernel guest-root modules clippy rustdoc rust-analyzer modules_install uninstall:
	+@$(GUEST) $@ --kernel $(KERNEL)

rustfmt rustfmtcheck:
	@$(GUEST) $@

# What the machine lacks is installed first: one command is enough.
ready = tools/doctor >/dev/null 2>&1 || tools/doctor --install

run:
	@$(ready)
	+@$(GUEST) modules --kernel $(KERNEL)
	@$(GUEST) run --kernel $(KERNEL)

check:
	@$(ready)
	+@tools/check/check $(SUITES)

check-long:
	@$(ready)
	+@tools/check/check --long $(SUITES)

bench:
	@$(ready)
	+@tools/testing/bench/bench run --against c
	+@tools/testing/bench/bench host

clean:
	rm -rf build/release build/debug build/*-clippy build/[0-9]* build/log target
	rm -f rust-project.json

distclean: clean
	rm -rf build
	find tools -name __pycache__ -prune -exec rm -rf {} +
