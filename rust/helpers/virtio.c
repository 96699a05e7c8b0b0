// SPDX-License-Identifier: GPL-2.0

#include <linux/idr.h>
#include <linux/irq.h>
#include <linux/of.h>
#include <linux/pci.h>
#include <linux/sched/signal.h>
#include <linux/virtio.h>
#include <linux/virtio_anchor.h>
#include <linux/virtio_config.h>

__rust_helper void rust_helper_virtio_synchronize_cbs(struct virtio_device *dev)
{
	virtio_synchronize_cbs(dev);
}

__rust_helper const char *rust_helper_virtio_bus_name(struct virtio_device *vdev)
{
	return virtio_bus_name(vdev);
}

__rust_helper void rust_helper_virtio_spin_lock_init(spinlock_t *lock)
{
	spin_lock_init(lock);
}

__rust_helper unsigned long rust_helper_virtio_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

__rust_helper void rust_helper_virtio_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

__rust_helper void rust_helper_virtio_init_list_head(struct list_head *list)
{
	INIT_LIST_HEAD(list);
}

__rust_helper void rust_helper_virtio_list_add_tail(struct list_head *entry, struct list_head *head)
{
	list_add_tail(entry, head);
}

__rust_helper void rust_helper_virtio_list_del(struct list_head *entry)
{
	list_del(entry);
}

__rust_helper void rust_helper_virtio_device_lock(struct device *dev)
{
	device_lock(dev);
}

__rust_helper int rust_helper_virtio_device_lock_interruptible(struct device *dev)
{
	return device_lock_interruptible(dev);
}

__rust_helper void rust_helper_virtio_device_unlock(struct device *dev)
{
	device_unlock(dev);
}

__rust_helper int rust_helper_virtio_dev_num_vf(struct device *dev)
{
	return dev_num_vf(dev);
}

__rust_helper int rust_helper_virtio_dev_to_node(struct device *dev)
{
	return dev_to_node(dev);
}

__rust_helper int rust_helper_virtio_dev_set_name(struct device *dev, unsigned int index)
{
	return dev_set_name(dev, "virtio%u", index);
}

__rust_helper int rust_helper_virtio_add_modalias(struct kobj_uevent_env *env, u32 device, u32 vendor)
{
	return add_uevent_var(env, "MODALIAS=virtio:d%08Xv%08X", device, vendor);
}

__rust_helper bool rust_helper_virtio_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

__rust_helper void rust_helper_virtio_ida_init(struct ida *ida)
{
	ida_init(ida);
}

__rust_helper void rust_helper_virtio_of_node_put(struct device *dev)
{
	of_node_put(dev->of_node);
}

__rust_helper void rust_helper_virtio_device_init_locks(struct virtio_device *dev)
{
	spin_lock_init(&dev->config_lock);
	INIT_LIST_HEAD(&dev->vqs);
	spin_lock_init(&dev->vqs_list_lock);
}

/*
 * A device-tree child node of the transport's device may describe the virtio device: at most one,
 * "virtio,deviceXX".  (On pseries PCI ids play that role: another name is no error.)
 */
__rust_helper int rust_helper_virtio_device_of_init(struct virtio_device *dev)
{
	struct device_node *np, *pnode = dev_of_node(dev->dev.parent);
	char compat[sizeof("virtio,deviceXXXXXXXX")];
	int count;

	if (!pnode)
		return 0;
	count = of_get_available_child_count(pnode);
	if (!count)
		return 0;
	if (WARN_ON(count > 1))
		return -EINVAL;
	np = of_get_next_available_child(pnode, NULL);
	if (WARN_ON(!np))
		return -ENODEV;
	snprintf(compat, sizeof(compat), "virtio,device%x", dev->id.device);
	if (of_device_is_compatible(np, compat))
		dev->dev.of_node = np;
	else
		of_node_put(np);
	return 0;
}

__rust_helper void rust_helper_virtio_init_work(struct work_struct *work, work_func_t func)
{
	INIT_WORK(work, func);
}

__rust_helper void rust_helper_virtio_schedule_work(struct work_struct *work)
{
	queue_work(system_freezable_wq, work);
}

__rust_helper bool rust_helper_virtio_check_memory_access(struct virtio_device *dev)
{
	return virtio_check_mem_acc_cb(dev);
}
