// SPDX-License-Identifier: GPL-2.0
/* Exports the C ABI of virtio.ko, with the headers' own prototypes. */

#include <linux/export.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

EXPORT_SYMBOL_GPL(__register_virtio_driver);
EXPORT_SYMBOL_GPL(unregister_virtio_driver);
EXPORT_SYMBOL_GPL(register_virtio_device);
EXPORT_SYMBOL_GPL(unregister_virtio_device);
EXPORT_SYMBOL_GPL(is_virtio_device);
EXPORT_SYMBOL_GPL(virtio_check_driver_offered_feature);
EXPORT_SYMBOL_GPL(virtio_config_changed);
EXPORT_SYMBOL_GPL(virtio_config_driver_disable);
EXPORT_SYMBOL_GPL(virtio_config_driver_enable);
EXPORT_SYMBOL_GPL(virtio_add_status);
EXPORT_SYMBOL_GPL(virtio_reset_device);
EXPORT_SYMBOL_GPL(virtio_device_shutdown);
#ifdef CONFIG_PM_SLEEP
EXPORT_SYMBOL_GPL(virtio_device_freeze);
EXPORT_SYMBOL_GPL(virtio_device_restore);
#endif
EXPORT_SYMBOL_GPL(virtio_device_reset_prepare);
EXPORT_SYMBOL_GPL(virtio_device_reset_done);
