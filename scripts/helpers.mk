# SPDX-License-Identifier: GPL-2.0
#
# C inline functions and macros for Rust.  With CONFIG_RUST_INLINE_HELPERS they are linked,
# next to the kernel's own, as bitcode into every crate: this repeats `cmd_rustc_o_rs` of
# scripts/Makefile.build of 7.3 with one more input to llvm-link (a pattern-specific variable
# wins over the global one).  Otherwise virtio_ring.ko holds and exports them.

# No header declares them: they are for Rust only.
CFLAGS_REMOVE_rust/helpers/helpers.o := -Wmissing-prototypes -Wmissing-declarations

ifdef CONFIG_RUST_INLINE_HELPERS
virtio-helpers-bc := $(obj)/rust/helpers/helpers_module.bc

quiet_cmd_rust_helper = HELPER  $@
      cmd_rust_helper = \
	$(CC) $(filter-out $(CFLAGS_REMOVE_rust/helpers/helpers.o), $(c_flags)) -c -g0 $< -emit-llvm -o $@
$(virtio-helpers-bc): private part-of-module := y
$(virtio-helpers-bc): $(src)/rust/helpers/helpers.c FORCE
	+$(call if_changed_dep,rust_helper)
targets += rust/helpers/helpers_module.bc

$(obj)/%.o: private cmd_rustc_o_rs = $(rust_common_cmd) --emit=llvm-bc=$(patsubst %.o,%.bc,$@) $< && \
	$(LLVM_LINK) --internalize --suppress-warnings $(patsubst %.o,%.bc,$@) \
		$(objtree)/rust/helpers/helpers_module.bc $(virtio-helpers-bc) \
		-o $(patsubst %.o,%.m.bc,$@) && \
	$(CC) $(CLANG_FLAGS) $(filter-out $(CC_FLAGS_LTO),$(KBUILD_CFLAGS)) \
		$(CC_FLAGS_RUST_INLINE_HELPERS) -Wno-override-module -c $(patsubst %.o,%.m.bc,$@) -o $@ \
		$(cmd_ld_single) \
	$(cmd_objtool)
$(obj)/rust/virtio_bindings.o $(obj)/rust/virtio_spec/virtio_spec.o \
$(obj)/rust/virtqueue/virtqueue.o: $(virtio-helpers-bc)
clean-files += rust/helpers/*.bc
else
virtio_ring-y += rust/helpers/helpers.o
helpers-obj := rust/helpers/helpers.o
endif
