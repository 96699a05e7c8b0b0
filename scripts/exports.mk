# SPDX-License-Identifier: GPL-2.0
#
# What the core modules and the transport export.  exports_rust.c: every global Rust symbol, since generic and
# inline functions are instantiated in the crates that use them.  exports.c: the C ABI, with the
# prototypes of the kernel's own headers.

quiet_cmd_exports = EXPORTS $@
      cmd_exports = \
	$(NM) -p --defined-only $(real-prereqs) | awk \
		'$$2 ~ /^[TRDBV]$$/ && $$3 ~ /^(_R|rust_helper_)/ && \
		 $$3 !~ /13___module_init|__(pfx|cfi|odr_asan)/ \
		 { printf "EXPORT_SYMBOL_RUST_GPL(%s);\n", $$3 }' > $@

# $(call exports,DIRECTORY,OBJECTS)
define exports
$$(obj)/$(1)/exports_generated.h: $$(addprefix $$(obj)/,$(2)) FORCE
	$$(call if_changed,exports)
targets += $(1)/exports_generated.h
$$(obj)/$(1)/exports_rust.o: $$(obj)/$(1)/exports_generated.h
CFLAGS_$(1)/exports_rust.o := -I $$(obj)/$(1)
clean-files += $(1)/exports_generated.h
endef

virtio_ring-crates := rust/virtio_bindings.o rust/virtio_spec/virtio_spec.o \
	rust/virtqueue/virtqueue.o rust/virtio_ring/virtio_ring.o
$(eval $(call exports,rust/virtio_ring,$(virtio_ring-crates) $(helpers-obj)))
$(eval $(call exports,rust/virtio,rust/virtio/virtio.o))

# With MODVERSIONS the CRCs of Rust symbols come from the Rust objects (not virtio_bindings.o:
# it has no code, and gendwarfksyms fails on it), and those of the C ABI from the C core, which
# is what C modules were built against: gendwarfksyms cannot compute them here, they depend on
# the types that the C file happens to use.
ifdef CONFIG_MODVERSIONS
modversions-rust = $(call getexportsymbols,\1) | $(objtree)/scripts/gendwarfksyms/gendwarfksyms \
	$(if $(KBUILD_GENDWARFKSYMS_STABLE), --stable) $(addprefix $(obj)/,$(1))
modversions-c = awk '$$3 == "drivers/virtio/$(1)" { print "\#SYMVER", $$2, $$1 }' \
	$(objtree)/Module.symvers

$(obj)/rust/virtio_ring/exports_rust.o: private cmd_gensymtypes_c = \
	$(call modversions-rust,$(filter-out rust/virtio_bindings.o,$(virtio_ring-crates) $(helpers-obj)))
$(obj)/rust/virtio/exports_rust.o: private cmd_gensymtypes_c = \
	$(call modversions-rust,rust/virtio/virtio.o)
$(obj)/rust/virtio_ring/exports.o: private cmd_gensymtypes_c = $(call modversions-c,virtio_ring)
$(obj)/rust/virtio/exports.o: private cmd_gensymtypes_c = $(call modversions-c,virtio)
$(obj)/drivers/virtio/virtio_pci/exports.o: private cmd_gensymtypes_c = \
	$(call modversions-c,virtio_pci)
endif
