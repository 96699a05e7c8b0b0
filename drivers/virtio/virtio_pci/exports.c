// SPDX-License-Identifier: GPL-2.0
/* Exports the C ABI of virtio_pci.ko, with the header's own prototypes. */

#include <linux/export.h>
#include <linux/virtio_pci_admin.h>

#ifdef CONFIG_VIRTIO_PCI_ADMIN_LEGACY
EXPORT_SYMBOL_GPL(virtio_pci_admin_has_legacy_io);
EXPORT_SYMBOL_GPL(virtio_pci_admin_legacy_common_io_write);
EXPORT_SYMBOL_GPL(virtio_pci_admin_legacy_device_io_write);
EXPORT_SYMBOL_GPL(virtio_pci_admin_legacy_common_io_read);
EXPORT_SYMBOL_GPL(virtio_pci_admin_legacy_device_io_read);
EXPORT_SYMBOL_GPL(virtio_pci_admin_legacy_io_notify_info);
#endif
EXPORT_SYMBOL_GPL(virtio_pci_admin_has_dev_parts);
EXPORT_SYMBOL_GPL(virtio_pci_admin_mode_set);
EXPORT_SYMBOL_GPL(virtio_pci_admin_obj_create);
EXPORT_SYMBOL_GPL(virtio_pci_admin_obj_destroy);
EXPORT_SYMBOL_GPL(virtio_pci_admin_dev_parts_metadata_get);
EXPORT_SYMBOL_GPL(virtio_pci_admin_dev_parts_get);
EXPORT_SYMBOL_GPL(virtio_pci_admin_dev_parts_set);
