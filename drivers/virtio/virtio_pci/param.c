// SPDX-License-Identifier: GPL-2.0
/*
 * The module parameter of virtio_pci.  Those of the Rust `module!` of 7.3 do not appear in sysfs.
 *
 * C source: drivers/virtio/virtio_pci_common.c.
 */

#include <linux/moduleparam.h>
#include <linux/module.h>

bool virtio_pci_force_legacy;

#if IS_ENABLED(CONFIG_VIRTIO_PCI_LEGACY)
module_param_named(force_legacy, virtio_pci_force_legacy, bool, 0444);
MODULE_PARM_DESC(force_legacy,
		 "Force legacy mode for transitional virtio 1 devices");
#endif
