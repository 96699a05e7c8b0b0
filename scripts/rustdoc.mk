# SPDX-License-Identifier: GPL-2.0
#
# make rustdoc (VIRTIO_RUSTDOC=1).  The kernel's cmd_rustdoc is for its own crates: this one
# adds what a module gets.

ifdef VIRTIO_RUSTDOC
rustdoc-dir := $(CURDIR)/rustdoc

quiet_cmd_rustdoc = RUSTDOC $<
      cmd_rustdoc = \
	OBJTREE=$(abspath $(objtree)) RUST_MODFILE=$(basename $@) $(RUSTDOC) \
	$(filter-out --remap-path-scope=% --emit=%,$(rust_flags)) $(RUSTFLAGS_DOC) \
	-Zallow-features=$(rust_allowed_features) -Zcrate-attr=no_std \
	-Zcrate-attr='feature($(rust_allowed_features))' -Zunstable-options \
	-Cunsafe-allow-abi-mismatch=fixed-x18 --generate-link-to-definition -Dwarnings \
	--extern pin_init --extern kernel --extern zerocopy --extern zerocopy_derive \
	-L $(objtree)/rust --sysroot=/dev/null \
	--output $(rustdoc-dir) --crate-name $(basename $(notdir $<)) $< && touch $@

# $(call rustdoc,OBJECT)
define rustdoc
always-m += $(1:.o=.rustdoc)
$$(obj)/$(1:.o=.rustdoc): private part-of-module := y
$$(obj)/$(1:.o=.rustdoc): private RUSTFLAGS_DOC := $(filter-out --emit=%,$(RUSTFLAGS_$(1)))
$$(obj)/$(1:.o=.rustdoc): $$(src)/$(1:.o=.rs) $$(obj)/$(1) FORCE
	+$$(call if_changed,rustdoc)
endef

$(foreach c,virtio_spec virtqueue virtio_ring virtio pci_ext block_mq hw_random netdev balloon,\
	$(eval $(call rustdoc,$(crate-object-$(c)))))
endif
