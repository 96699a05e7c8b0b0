# SPDX-License-Identifier: GPL-2.0
#
# The crates and what each may import.  $(call crate,OBJECT,NAME,DEPENDENCIES): metadata for
# the crates above, `--extern` and prerequisites for the crates below.  (rustc's dep-info does
# not list metadata files: without the prerequisites a rebuilt crate leaves stale users.)

# Searched for every crate: which of them a crate may name is decided by --extern.
rmeta-dirs := rust rust/virtio_spec rust/virtqueue rust/virtio_ring rust/virtio rust/abstractions

crate-object-virtio_bindings := rust/virtio_bindings.o
crate-object-virtio_spec := rust/virtio_spec/virtio_spec.o
crate-object-virtqueue := rust/virtqueue/virtqueue.o
crate-object-virtio_ring := rust/virtio_ring/virtio_ring.o
crate-object-virtio := rust/virtio/virtio.o
crate-object-pci_ext := rust/abstractions/pci_ext.o
crate-object-block_mq := rust/abstractions/block_mq.o
crate-object-hw_random := rust/abstractions/hw_random.o
crate-object-netdev := rust/abstractions/netdev.o
crate-object-balloon := rust/abstractions/balloon.o

define crate
RUSTFLAGS_$(1) := --emit=metadata=$$(obj)/$(dir $(1))lib$(2).rmeta \
	$$(addprefix -L $$(obj)/,$$(rmeta-dirs)) $(addprefix --extern ,$(3))
$$(obj)/$(1): $$(addprefix $$(obj)/,$(foreach c,$(3),$(crate-object-$(c))))
endef

$(eval $(call crate,rust/virtio_bindings.o,virtio_bindings,))
$(eval $(call crate,rust/virtio_spec/virtio_spec.o,virtio_spec,))
$(eval $(call crate,rust/virtqueue/virtqueue.o,virtqueue,))
$(eval $(call crate,rust/virtio_ring/virtio_ring.o,virtio_ring,virtio_bindings virtio_spec virtqueue))
$(eval $(call crate,rust/virtio/virtio.o,virtio,virtio_bindings virtio_spec virtio_ring))
$(eval $(call crate,rust/abstractions/pci_ext.o,pci_ext,virtio_bindings))
$(eval $(call crate,rust/abstractions/hw_random.o,hw_random,virtio_bindings))
$(eval $(call crate,rust/abstractions/block_mq.o,block_mq,virtio_bindings virtio))
$(eval $(call crate,rust/abstractions/netdev.o,netdev,virtio_bindings virtio_spec virtio))
$(eval $(call crate,rust/abstractions/balloon.o,balloon,virtio_bindings virtio_spec virtio))
$(eval $(call crate,drivers/virtio/virtio_pci/virtio_pci.o,virtio_pci,virtio_bindings virtio_spec virtio_ring virtio pci_ext))
$(eval $(call crate,drivers/char/hw_random/virtio_rng.o,virtio_rng,virtio_spec virtio hw_random))
$(eval $(call crate,drivers/block/virtio_blk.o,virtio_blk,virtio_spec virtio block_mq))
$(eval $(call crate,drivers/net/virtio_net.o,virtio_net,virtio_spec virtio netdev))
$(eval $(call crate,drivers/virtio/virtio_balloon.o,virtio_balloon,virtio_spec virtio balloon))
$(eval $(call crate,samples/rust/rust_virtio_minimal.o,rust_virtio_minimal,virtio_spec virtio))

# The kernel's own metadata: the rest follows from these.
$(obj)/rust/virtio_bindings.o $(obj)/rust/virtio_spec/virtio_spec.o $(obj)/rust/virtqueue/virtqueue.o: \
	$(objtree)/rust/libkernel.rmeta

clean-files += *.bc $(foreach d,$(rmeta-dirs) drivers/virtio drivers/virtio/virtio_pci drivers/char/hw_random \
	drivers/block drivers/net \
	samples/rust,$(d)/*.rmeta $(d)/*.bc)
