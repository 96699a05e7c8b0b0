// SPDX-License-Identifier: GPL-2.0

#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/kmemleak.h>
#include <linux/kmsan.h>
#include <linux/scatterlist.h>
#include <xen/xen.h>

__rust_helper phys_addr_t rust_helper_virtio_virt_to_phys(void *addr)
{
	return virt_to_phys(addr);
}

__rust_helper void *rust_helper_virtio_phys_to_virt(phys_addr_t phys)
{
	return phys_to_virt(phys);
}

__rust_helper struct page *rust_helper_virtio_virt_to_page(void *addr)
{
	return virt_to_page(addr);
}

__rust_helper dma_addr_t rust_helper_virtio_page_dma(struct page *page, size_t offset, size_t size,
						     enum dma_data_direction dir)
{
	phys_addr_t phys = page_to_phys(page) + offset;

	kmsan_handle_dma(phys, size, dir);
	return phys;
}

__rust_helper struct page *rust_helper_virtio_sg_page(struct scatterlist *sg)
{
	return sg_page(sg);
}

__rust_helper phys_addr_t rust_helper_virtio_sg_phys(struct scatterlist *sg)
{
	return sg_phys(sg);
}

__rust_helper dma_addr_t rust_helper_virtio_sg_dma_address(struct scatterlist *sg)
{
	return sg_dma_address(sg);
}

__rust_helper unsigned int rust_helper_virtio_sg_dma_len(struct scatterlist *sg)
{
	return sg_dma_len(sg);
}

__rust_helper void rust_helper_virtio_kmsan_handle_dma(phys_addr_t phys, size_t size,
						       enum dma_data_direction dir)
{
	kmsan_handle_dma(phys, size, dir);
}

__rust_helper int rust_helper_virtio_dma_mapping_error(struct device *dev, dma_addr_t addr)
{
	return dma_mapping_error(dev, addr);
}

__rust_helper bool rust_helper_virtio_dma_need_sync(struct device *dev, dma_addr_t addr)
{
	return dma_need_sync(dev, addr);
}

__rust_helper void rust_helper_virtio_dma_sync_for_cpu(struct device *dev, dma_addr_t addr,
						       unsigned long offset, size_t size,
						       enum dma_data_direction dir)
{
	dma_sync_single_range_for_cpu(dev, addr, offset, size, dir);
}

__rust_helper void rust_helper_virtio_dma_sync_for_device(struct device *dev, dma_addr_t addr,
							  unsigned long offset, size_t size,
							  enum dma_data_direction dir)
{
	dma_sync_single_range_for_device(dev, addr, offset, size, dir);
}

__rust_helper bool rust_helper_virtio_xen_domain(void)
{
	return xen_domain();
}

__rust_helper bool rust_helper_virtio_is_vmalloc_addr(const void *addr)
{
	return is_vmalloc_addr(addr);
}

__rust_helper void *rust_helper_virtio_alloc_pages_exact(size_t size, gfp_t gfp)
{
	return alloc_pages_exact(PAGE_ALIGN(size), gfp);
}

__rust_helper void rust_helper_virtio_free_pages_exact(void *memory, size_t size)
{
	free_pages_exact(memory, PAGE_ALIGN(size));
}

__rust_helper void *rust_helper_virtio_kmalloc(size_t size, gfp_t gfp)
{
	/* Indirect tables are read by the device through a single address: never highmem. */
	return kmalloc(size, gfp & ~__GFP_HIGHMEM);
}

__rust_helper void rust_helper_virtio_kmemleak_not_leak(const void *memory)
{
	kmemleak_not_leak(memory);
}
