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
# Nothing else does: what dkms adds (CC=) would override what the kernel's make finds out.
MAKEOVERRIDES :=

GUEST := tools/guest/guest
verbs := help doctor deps kernel guest-root modules run check check-long bench clippy rustfmt \
	rustfmtcheck rustdoc rust-analyzer modules_install uninstall tools_install tools_uninstall \
	clean distclean

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
	@echo '  modules_install  into updates/ of the kernel'\''s modules (INSTALL_MOD_PATH=); EXPERIMENTAL=1: virtio_balloon too'
	@echo '  uninstall        undo that'
	@echo '  tools_install    lsvirtio, virtio-report and the manual pages, below PREFIX (default: /usr/local); DESTDIR='
	@echo '  tools_uninstall  undo that'
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

# What tools_install installs: mode, file, and where below PREFIX.
PREFIX ?= /usr/local
INSTALL ?= install
manual := $(wildcard Documentation/man/*.1 Documentation/man/*.4)
installed := bin/lsvirtio bin/virtio-report share/lsvirtio/lsvirtio.schema.json \
	share/bash-completion/completions/lsvirtio $(foreach page,$(manual),share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
to := $(DESTDIR)$(PREFIX)

tools_install:
	$(INSTALL) -D -m 755 tools/lsvirtio/lsvirtio.py $(to)/bin/lsvirtio
	$(INSTALL) -D -m 755 tools/lsvirtio/virtio_report.py $(to)/bin/virtio-report
	$(INSTALL) -D -m 644 tools/lsvirtio/lsvirtio.schema.json $(to)/share/lsvirtio/lsvirtio.schema.json
	$(INSTALL) -D -m 644 tools/lsvirtio/lsvirtio.bash $(to)/share/bash-completion/completions/lsvirtio
	for page in $(manual); do \
		$(INSTALL) -D -m 644 $$page $(to)/share/man/man$${page##*.}/$${page##*/} || exit 1; \
	done

tools_uninstall:
	rm -f $(addprefix $(to)/,$(installed))
	if [ -d $(to)/share/lsvirtio ]; then rmdir $(to)/share/lsvirtio; fi

clean:
	rm -rf build/release build/debug build/*-clippy build/[0-9]* build/log target
	rm -f rust-project.json

distclean: clean
	rm -rf build
	find tools -name __pycache__ -prune -exec rm -rf {} +
