/* SPDX-License-Identifier: GPL-2.0 */
/*
 * include/linux/virtio.h of Linux 7.3 names this header, and tools/virtio has it only under its older name.
 */
#include <linux/mod_devicetable.h>
