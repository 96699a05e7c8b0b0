// SPDX-License-Identifier: GPL-2.0

//! Administration against a device that is a work item, and walks the ring as a device does.
//!
//! No device of QEMU has an administration queue; what stands behind the ring is made here.

use super::{
    Admin,
    Answer,
    Header,
    Memory, //
};
use core::{
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    admin::{
        GroupType,
        Opcode,
        Opcodes, //
    },
    transport::{
        IndirectDesc,
        Version1, //
    },
    DeviceType,
    Features, //
};

/// What the device does with a command.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Conduct {
    /// Carries it out.
    Answer,
    /// Writes a status of 22.
    Refuse,
    /// Writes a status of 0, and no result.
    AnswerShort,
    /// Says that it wrote more than there is room for.
    AnswerTooMuch,
    /// Leaves it where it is.
    Ignore,
    /// Says that it used a buffer that does not exist.
    Invent,
    /// Is reset, as seen from the transport.
    Reset,
    /// Does not reset.
    RefuseReset,
}

/// A virtio device with one queue.
#[repr(C)]
struct Rig {
    vdev: Opaque<bindings::virtio_device>,
    work: Opaque<bindings::work_struct>,
    admin: Pin<KBox<Admin>>,
    vq: NonNull<bindings::virtqueue>,
    conduct: Atomic<u32>,
    /// The notification register works.
    can_notify: Atomic<bool>,
    /// How many available entries were looked at.
    taken: Atomic<u32>,
    /// From addresses of the device to ours.
    to_virtual: usize,
}

/// A descriptor's memory.
struct Part {
    memory: *mut u8,
    len: usize,
    writable: bool,
}

/// # Safety
///
/// `vq` is the queue of a `Rig`.
unsafe extern "C" fn used(vq: *mut bindings::virtqueue) {
    // SAFETY: The device is the first field of a `Rig`.
    unsafe { &*(*vq).vdev.cast::<Rig>() }.admin.queue().used();
}

/// # Safety
///
/// `vq` is the queue of a `Rig`.
unsafe extern "C" fn notify(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: The device is the first field of a `Rig`.
    let rig = unsafe { &*(*vq).vdev.cast::<Rig>() };
    // SAFETY: Initialised by `Rig::new`.
    unsafe { bindings::virtio_schedule_work(rig.work.get()) };
    rig.can_notify.load(Relaxed)
}

/// # Safety
///
/// `work` is that of a `Rig`.
unsafe extern "C" fn serve(work: *mut bindings::work_struct) {
    let rig = work
        .cast::<u8>()
        .wrapping_sub(offset_of!(Rig, work))
        .cast::<Rig>();
    // SAFETY: The work is in a `Rig`, which waits for it before it goes.
    unsafe { &*rig }.serve();
}

/// The memory is the rig's.
extern "C" fn release(_dev: *mut bindings::device) {}

impl Rig {
    fn new(size: u32, features: Features) -> Result<KBox<Self>> {
        let mut room = KBox::<Self>::new_uninit(GFP_KERNEL)?;
        let rig = room.as_mut_ptr();
        // SAFETY: Initialised field by field, and not used by anybody before.
        unsafe {
            let vdev = (&raw mut (*rig).vdev).cast::<bindings::virtio_device>();
            vdev.write_bytes(0, 1);
            (*vdev).dev.init_name = c"fake".as_char_ptr();
            (*vdev).dev.release = Some(release);
            bindings::device_initialize(&raw mut (*vdev).dev);
            bindings::virtio_device_init_locks(vdev);
            (*vdev).id.device = DeviceType::NET.id();
            (*vdev).__bindgen_anon_1.features_array = features.to_u64s();

            let work = (&raw mut (*rig).work).cast::<bindings::work_struct>();
            bindings::virtio_init_work(work, Some(serve));

            let dev = kernel::device::Device::from_raw(&raw mut (*vdev).dev);
            (&raw mut (*rig).admin).write(Admin::new(dev)?);
            let params = virtio_ring::Params {
                index: 0,
                size,
                align: bindings::SMP_CACHE_BYTES,
                weak_barriers: true,
                may_reduce: false,
                context: false,
                notify,
                callback: Some(used),
                name: c"avq.0".as_char_ptr(),
            };
            let vq = virtio_ring::create(vdev, &params)?;
            (&raw mut (*rig).vq).write(vq);
            (&raw mut (*rig).conduct).write(Atomic::new(Conduct::Answer as u32));
            (&raw mut (*rig).can_notify).write(Atomic::new(true));
            (&raw mut (*rig).taken).write(Atomic::new(0));
            // Memory that is mapped linearly: what holds for one address holds for all.
            let linear = rig.cast::<c_void>();
            let offset = linear
                .addr()
                .wrapping_sub(bindings::virtio_virt_to_phys(linear) as usize);
            (&raw mut (*rig).to_virtual).write(offset);
            (*rig).admin.start(vq);
            Ok(room.assume_init())
        }
    }

    fn split(size: u32) -> Result<KBox<Self>> {
        Self::new(size, Features::EMPTY.with::<Version1>())
    }

    fn behave(&self, conduct: Conduct) {
        self.conduct.store(conduct as u32, Relaxed);
    }

    fn behaves(&self, conduct: Conduct) -> bool {
        self.conduct.load(Relaxed) == conduct as u32
    }

    /// Where an address of the device lies.
    fn at(&self, address: u64) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut((address as usize).wrapping_add(self.to_virtual))
    }

    /// The device's turn.
    fn serve(&self) {
        if self.behaves(Conduct::Ignore) {
            return;
        }
        if self.behaves(Conduct::Reset) || self.behaves(Conduct::RefuseReset) {
            // SAFETY: The device does nothing any more, or keeps what it has.
            unsafe { self.admin.stop(self.behaves(Conduct::Reset)) };
            return;
        }
        // SAFETY: The ring is alive, and split: the view is that of its memory.
        unsafe {
            let view = &*bindings::virtqueue_get_vring(self.vq.as_ptr());
            let (avail, used) = (view.avail.cast::<u16>(), view.used.cast::<u16>());
            let size = view.num as u16;
            let mut taken = self.taken.load(Relaxed) as u16;
            while u16::from_le(avail.add(1).read_volatile()) != taken {
                let head = u16::from_le(avail.add(usize::from(2 + taken % size)).read_volatile());
                let written = self.carry_out(view.desc, head);
                let at = used.add(1).read_volatile();
                let element = used.add(usize::from(2 + at % size * 4)).cast::<u32>();
                let id = if self.behaves(Conduct::Invent) {
                    u32::from(size)
                } else {
                    head.into()
                };
                element.write_volatile(id);
                element.add(1).write_volatile(written);
                used.add(1).write_volatile(at.wrapping_add(1));
                taken = taken.wrapping_add(1);
            }
            self.taken.store(taken.into(), Relaxed);
            virtio_ring::interrupt(self.vq);
        }
    }

    /// The parts of the chain at `head` of `table`.
    ///
    /// # Safety
    ///
    /// They are descriptors, little-endian as the machine is.
    unsafe fn chain(&self, table: *const bindings::vring_desc, head: u16) -> KVec<Part> {
        let mut parts = KVec::new();
        let (mut table, mut at) = (table, head);
        loop {
            // SAFETY: By the contract.
            let desc = unsafe { table.add(at.into()).read_volatile() };
            if u32::from(desc.flags) & bindings::VRING_DESC_F_INDIRECT != 0 {
                table = self.at(desc.addr).cast::<bindings::vring_desc>();
                at = 0;
                continue;
            }
            let part = Part {
                memory: self.at(desc.addr),
                len: desc.len as usize,
                writable: u32::from(desc.flags) & bindings::VRING_DESC_F_WRITE != 0,
            };
            if parts.push(part, GFP_KERNEL).is_err()
                || u32::from(desc.flags) & bindings::VRING_DESC_F_NEXT == 0
            {
                return parts;
            }
            at = desc.next;
        }
    }

    /// Carries a command out, and returns how many bytes were written.
    ///
    /// # Safety
    ///
    /// As [`Rig::chain`].
    unsafe fn carry_out(&self, table: *const bindings::vring_desc, head: u16) -> u32 {
        // SAFETY: By the contract.
        let parts = unsafe { self.chain(table, head) };
        let mut readable = parts.iter().filter(|part| !part.writable);
        let mut writable = parts.iter().filter(|part| part.writable);
        let (Some(header), Some(status)) = (readable.next(), writable.next()) else {
            return 0;
        };
        // SAFETY: A header has 24 bytes, a status 8.
        let opcode = unsafe {
            let refused = self.behaves(Conduct::Refuse);
            status.memory.write_volatile(if refused { 22 } else { 0 });
            header.memory.cast::<u16>().read_volatile()
        };
        if self.behaves(Conduct::AnswerTooMuch) {
            return u32::MAX;
        }
        let mut written = 8;
        if self.behaves(Conduct::Answer) {
            let mut bytes = Iterator::chain(answer(opcode).iter(), core::iter::repeat(&0xa5));
            for part in writable {
                for (at, byte) in (0..part.len).zip(&mut bytes) {
                    // SAFETY: Inside of the part.
                    unsafe { part.memory.add(at).write_volatile(*byte) };
                    written += 1;
                }
            }
        }
        written
    }

    /// Has the device look at its queue now.  By its work: two at a time are no device.
    fn take_turn(&self) {
        // SAFETY: Initialised by `new`.
        unsafe { bindings::virtio_schedule_work(self.work.get()) };
        self.settle();
    }

    /// Waits until the device has had its turn.
    fn settle(&self) {
        // SAFETY: Initialised by `new`.
        unsafe { bindings::flush_work(self.work.get()) };
    }

    fn execute(&self, data_len: usize, result_len: usize, millis: i64) -> Result<Answer> {
        let header = Header::new(Opcode::DevModeSet, GroupType::SrIov, 1);
        let data = Memory::zeroed(data_len)?;
        self.admin
            .execute(&header, data, result_len, Delta::from_millis(millis))
    }

    fn in_flight(&self) -> usize {
        self.admin.queue().in_flight()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // SAFETY: The device does nothing after its work was cancelled: it is as reset.  Deleted
        // once; the device is `vdev`'s last user.
        unsafe {
            bindings::cancel_work_sync(self.work.get());
            self.admin.stop(true);
            virtio_ring::delete(self.vq);
        }
    }
}

/// What the device answers; after that, bytes of 0xa5.
fn answer(opcode: u16) -> &'static [u8] {
    const LIST_QUERY: u16 = Opcode::ListQuery as u16;
    const CAP_ID_LIST_QUERY: u16 = Opcode::CapIdListQuery as u16;
    const DEVICE_CAP_GET: u16 = Opcode::DeviceCapGet as u16;
    const METADATA_GET: u16 = Opcode::DevPartsMetadataGet as u16;
    const NOTIFY_INFO: u16 = Opcode::LegacyNotifyInfo as u16;
    match opcode {
        LIST_QUERY => &[0xff; 8],
        CAP_ID_LIST_QUERY => &[1, 0, 0, 0, 0, 0, 0, 0],
        DEVICE_CAP_GET => &[3, 2],
        METADATA_GET => &[0x34, 0x12, 0, 0, 0, 0, 0, 0],
        // Odd; beyond the BAR; good.
        NOTIFY_INFO => &[
            2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, //
            2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, //
            2, 4, 0, 0, 0, 0, 0, 0, 0xfe, 0, 0, 0, 0, 0, 0, 0, //
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        _ => &[],
    }
}

/// Long enough for everything that is to happen.
const LONG: i64 = 30_000;

#[kunit_tests(virtio_pci_admin)]
mod cases {
    use super::*;
    use crate::admin::LegacySpace;

    #[test]
    fn commands_and_objects_are_agreed_on() -> Result {
        let rig = Rig::split(16)?;
        assert!(!rig.admin.has_legacy());
        rig.admin.activate();
        assert_eq!(
            rig.admin.has_legacy(),
            crate::admin::KNOWN.contains(Opcodes::LEGACY)
        );
        assert!(rig.admin.has_dev_parts());
        let member = rig.admin.member(0);
        assert_eq!(member.create_object(0)?, 0);
        assert_eq!(member.create_object(1)?, 1);
        // Three to read with, but only two to write with.
        assert_eq!(member.create_object(0).err(), Some(ENOSPC));
        member.destroy_object(0)?;
        assert_eq!(member.create_object(0)?, 0);
        assert_eq!(member.parts_size(0, 0)?, 0x1234);
        Ok(())
    }

    #[test]
    fn nothing_works_before_or_after() -> Result {
        let rig = Rig::split(16)?;
        let member = rig.admin.member(0);
        assert_eq!(member.set_mode(1).err(), Some(EOPNOTSUPP));
        rig.admin.activate();
        member.set_mode(1)?;
        // SAFETY: The device does nothing on its own.
        unsafe { rig.admin.stop(true) };
        assert_eq!(member.set_mode(1).err(), Some(EIO));
        assert!(!rig.admin.has_dev_parts());
        assert_eq!(member.create_object(0).err(), Some(EOPNOTSUPP));
        Ok(())
    }

    #[test]
    fn without_an_agreement_there_are_no_commands() -> Result {
        let rig = Rig::split(16)?;
        rig.behave(Conduct::Refuse);
        rig.admin.activate();
        rig.behave(Conduct::Answer);
        assert_eq!(rig.admin.member(0).set_mode(1).err(), Some(EOPNOTSUPP));
        Ok(())
    }

    #[test]
    fn a_refused_object_gives_its_number_back() -> Result {
        let rig = Rig::split(16)?;
        rig.admin.activate();
        let member = rig.admin.member(0);
        rig.behave(Conduct::Refuse);
        for _ in 0..4 {
            assert_eq!(member.create_object(0).err(), Some(EINVAL));
        }
        rig.behave(Conduct::Answer);
        assert_eq!(member.create_object(0)?, 0);
        Ok(())
    }

    #[test]
    fn legacy_reads_are_what_the_device_wrote() -> Result {
        let rig = Rig::split(16)?;
        rig.admin.activate();
        let member = rig.admin.member(0);
        let mut bytes = [0; 4];
        if rig.admin.has_legacy() {
            member.legacy_read(LegacySpace::Common, 0, &mut bytes)?;
            assert_eq!(bytes, [0xa5; 4]);
            // What the device leaves out is 0, not what was there before.
            rig.behave(Conduct::AnswerShort);
            member.legacy_read(LegacySpace::Device, 0, &mut bytes)?;
            assert_eq!(bytes, [0; 4]);
            member.legacy_write(LegacySpace::Device, 4, &bytes)?;
        }
        Ok(())
    }

    #[test]
    fn notification_places_lie_in_their_bar() -> Result {
        let rig = Rig::split(16)?;
        rig.admin.activate();
        let member = rig.admin.member(0);
        if rig.admin.has_legacy() {
            assert_eq!(member.notify_info(2, |_| Some(0x100))?, (4, 0xfe));
            assert_eq!(member.notify_info(2, |_| None).err(), Some(ENOENT));
            assert_eq!(member.notify_info(1, |_| Some(0x100)).err(), Some(ENOENT));
        }
        Ok(())
    }

    #[test]
    fn long_commands_need_one_descriptor_with_indirect_tables() -> Result {
        let long = 300 * 1024;
        let rig = Rig::new(4, Features::EMPTY.with::<Version1>().with::<IndirectDesc>())?;
        let answer = rig.execute(long, long, LONG)?;
        assert_eq!(answer.written() as usize, long + 8);
        let mut last = [0; 4];
        assert_eq!(answer.result_len(), long);
        answer.copy_to(&mut last);
        assert_eq!(last, [0xa5; 4]);
        // Without, they do not fit, and never will.
        let rig = Rig::split(4)?;
        assert_eq!(rig.execute(long, long, LONG).err(), Some(ENOMEM));
        assert_eq!(rig.in_flight(), 0);
        Ok(())
    }

    #[test]
    fn a_silent_device_is_left_at_the_deadline() -> Result {
        let rig = Rig::split(16)?;
        rig.behave(Conduct::Ignore);
        let start = Instant::<Monotonic>::now();
        assert_eq!(rig.execute(8, 8, 50).err(), Some(ETIMEDOUT));
        assert!(start.elapsed() >= Delta::from_millis(50));
        // The device still has the memory.
        assert_eq!(rig.in_flight(), 1);
        // A late answer gives it back, and disturbs nobody.
        rig.behave(Conduct::Answer);
        rig.take_turn();
        assert_eq!(rig.in_flight(), 0);
        rig.execute(8, 8, LONG)?;
        Ok(())
    }

    #[test]
    fn an_answer_without_interrupt_is_found_at_the_deadline() -> Result {
        let rig = Rig::split(16)?;
        // SAFETY: The queue is alive, and nobody calls back meanwhile.
        let callback = unsafe { (*rig.vq.as_ptr()).callback.take() };
        rig.execute(8, 8, 200)?;
        // SAFETY: As above.
        unsafe { (*rig.vq.as_ptr()).callback = callback };
        Ok(())
    }

    #[test]
    fn an_object_without_an_answer_keeps_its_number() -> Result {
        let rig = Rig::split(16)?;
        rig.admin.activate();
        rig.behave(Conduct::Invent);
        let member = rig.admin.member(0);
        assert_eq!(member.create_object(0).err(), Some(EIO));
        assert_eq!(rig.admin.agreed.lock().objects.take(), Some(1));
        Ok(())
    }

    #[test]
    fn a_full_ring_is_waited_for_no_longer_than_the_deadline() -> Result {
        // Two descriptors a command: header and status.
        let rig = Rig::split(4)?;
        rig.behave(Conduct::Ignore);
        for in_flight in [1, 2, 2] {
            let start = Instant::<Monotonic>::now();
            assert_eq!(rig.execute(0, 0, 20).err(), Some(ETIMEDOUT));
            assert!(start.elapsed() >= Delta::from_millis(20));
            assert_eq!(rig.in_flight(), in_flight);
        }
        rig.behave(Conduct::Answer);
        rig.take_turn();
        assert_eq!(rig.in_flight(), 0);
        rig.execute(0, 0, LONG)?;
        Ok(())
    }

    /// Executes one command while the device behaves so, and says what came of it.
    fn promptly(rig: &Rig, conduct: Conduct) -> Option<Error> {
        rig.behave(conduct);
        let start = Instant::<Monotonic>::now();
        let error = rig.execute(8, 8, LONG).err();
        rig.settle();
        assert!(start.elapsed() < Delta::from_millis(LONG));
        error
    }

    #[test]
    fn a_device_that_invents_buffers_breaks_the_queue() -> Result {
        let rig = Rig::split(16)?;
        assert_eq!(promptly(&rig, Conduct::Invent), Some(EIO));
        // The device may still use the memory.
        assert_eq!(rig.in_flight(), 1);
        assert_eq!(promptly(&rig, Conduct::Answer), Some(EIO));
        Ok(())
    }

    #[test]
    fn a_device_that_writes_too_much_breaks_the_queue() -> Result {
        let rig = Rig::split(16)?;
        assert_eq!(promptly(&rig, Conduct::AnswerTooMuch), Some(EIO));
        Ok(())
    }

    #[test]
    fn a_reset_wakes_those_who_wait() -> Result {
        let rig = Rig::split(16)?;
        assert_eq!(promptly(&rig, Conduct::Reset), Some(EIO));
        assert_eq!(rig.in_flight(), 0);
        Ok(())
    }

    #[test]
    fn a_reset_that_fails_wakes_too_but_takes_nothing_back() -> Result {
        let rig = Rig::split(16)?;
        assert_eq!(promptly(&rig, Conduct::RefuseReset), Some(EIO));
        assert_eq!(rig.in_flight(), 1);
        // SAFETY: The device of this test has reset after all.
        unsafe { rig.admin.stop(true) };
        assert_eq!(rig.in_flight(), 0);
        Ok(())
    }

    #[test]
    fn a_device_that_is_gone_is_given_up() -> Result {
        let rig = Rig::split(16)?;
        rig.behave(Conduct::Ignore);
        rig.admin.queue().give_up();
        assert_eq!(rig.execute(8, 8, LONG).err(), Some(EIO));
        Ok(())
    }

    #[test]
    fn a_failed_notification_leaves_the_memory_with_the_device() -> Result {
        let rig = Rig::split(16)?;
        rig.behave(Conduct::Ignore);
        rig.can_notify.store(false, Relaxed);
        assert_eq!(rig.execute(8, 8, LONG).err(), Some(EIO));
        assert_eq!(rig.in_flight(), 1);
        Ok(())
    }
}
