// SPDX-License-Identifier: GPL-2.0

//! What the block layer calls.
//!
//! C source: `virtio_mq_ops` and `virtblk_fops` in `drivers/block/virtio_blk.c`.

#[cfg(CONFIG_BLK_DEV_ZONED)]
use crate::zones;
use crate::{
    attributes,
    command::RequestData,
    disk::Shared,
    queue::Queue, //
};
#[cfg(CONFIG_BLK_DEV_ZONED)]
use block_mq::ZoneReport;
use block_mq::{
    Attribute,
    Batch,
    Expired,
    Geometry,
    HwQueue,
    Op,
    QueueResult,
    RequestList,
    Status, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::Delta, //
};

/// The driver, as the block layer sees it.
pub(crate) struct Operations;

pub(crate) type Request = block_mq::Request<Operations>;
pub(crate) type Disk = block_mq::Disk<Operations>;
pub(crate) type DiskRef = block_mq::DiskRef<Operations>;

impl block_mq::Operations for Operations {
    type RequestData = RequestData;
    type QueueData = Shared;
    type HwData = Queue;

    const ATTRIBUTES: &'static [Attribute<Self>] = &attributes::ALL;

    fn hw_data(data: &Shared, index: usize) -> Result<Arc<Queue>> {
        data.queue(index).cloned().ok_or(EINVAL)
    }

    #[inline(always)]
    fn queue_rq(hw: HwQueue<'_, Self>, request: Request, last: bool) -> QueueResult<Self> {
        hw.data().queue_rq(&hw, request, last)
    }

    #[inline]
    fn queue_rqs(hw: HwQueue<'_, Self>, list: &mut RequestList<'_, Self>) {
        hw.data().queue_rqs(list);
    }

    fn commit_rqs(hw: HwQueue<'_, Self>) {
        hw.data().commit();
    }

    #[inline]
    fn complete(mut request: Request) {
        let status = request.data().status();
        if request.op() == Op::ZoneAppend && status == Status::Ok {
            let sector = request.data().sector();
            request.set_sector(sector);
        }
        request.end(status);
    }

    fn poll(hw: HwQueue<'_, Self>, batch: &mut Batch<'_>) -> u32 {
        hw.data().poll(batch)
    }

    fn timeout(hw: HwQueue<'_, Self>, expired: Expired) -> Delta {
        hw.queue_data().timeout(hw.data(), expired)
    }

    #[cfg(CONFIG_BLK_DEV_ZONED)]
    fn report_zones(disk: &DiskRef, sector: u64, report: &mut ZoneReport<'_>) -> Result {
        zones::report(disk, sector, report)
    }

    fn geometry(data: &Shared) -> Option<Geometry> {
        data.geometry()
    }
}
