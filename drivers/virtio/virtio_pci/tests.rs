// SPDX-License-Identifier: GPL-2.0

//! KUnit tests against registers that a test plays: deadlines, and values that no device should
//! have.

mod doorbell;

use crate::{
    config::DeviceConfig,
    interface::{
        Assignment,
        Interface, //
    },
    modern::Modern,
    notify::Format,
    queues::is_ring_size, //
};
use doorbell::Place;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use pci_ext::io::{
    Model,
    Window, //
};
use virtio_spec::{
    pci::{
        self,
        common,
        BarInfo,
        BarKind,
        Capabilities,
        MSI_NO_VECTOR, //
    },
    Features,
    Status, //
};

/// Length of every structure but the notifications.
const STRUCTURE_LEN: u64 = 0x100;

/// Length of the notification region, in which a queue has 4 bytes.
const NOTIFY_LEN: u64 = 0x10;

/// More than what must be immediate takes on a busy machine, less than the deadlines that it is
/// compared with.
const AT_ONCE: Delta = Delta::from_millis(900);

/// What the registers say.
#[derive(Clone, Copy)]
struct Script {
    /// What a reset leaves in the status field.
    after_reset: u8,
    num_queues: u16,
    queue_size: u16,
    notify_off: u16,
    notify_data: u16,
    /// What `queue_enable` reads as, before 1 is written and after.
    disabled: u16,
    enabled: u16,
    /// What `queue_reset` reads as once 1 was written.
    resetting: u16,
    /// The vectors are not taken.
    refuses_vectors: bool,
}

impl Script {
    const HONEST: Self = Self {
        after_reset: 0,
        num_queues: 2,
        queue_size: 256,
        notify_off: 1,
        notify_data: 0,
        disabled: 0,
        enabled: 1,
        resetting: 0,
        refuses_vectors: false,
    };
}

/// What was written.
struct State {
    status: u8,
    vector: u16,
    enabled: bool,
    resetting: bool,
}

#[pin_data]
struct Registers {
    script: Script,
    #[pin]
    state: SpinLock<State>,
}

impl Registers {
    fn new(script: Script) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                script,
                state <- new_spinlock!(State {
                    status: 0xf,
                    vector: MSI_NO_VECTOR,
                    enabled: false,
                    resetting: false,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// A modern device with these registers, and none to notify it.
    fn device(self: &Arc<Self>) -> Result<Arc<Interface>> {
        self.device_notified_at(None)
    }

    /// A modern device with these registers, and those to notify it.
    fn device_notified_at(self: &Arc<Self>, place: Option<Place>) -> Result<Arc<Interface>> {
        let model = KBox::new(Common(self.clone()), GFP_KERNEL)?;
        let window = Window::model(common::FULL_LEN as u64, model)?;
        let notify = match place {
            Some(place) => Some(Window::model(NOTIFY_LEN, KBox::new(place, GFP_KERNEL)?)?),
            None => None,
        };
        let modern = Modern::model(window, notify, capabilities()?)?;
        Ok(Arc::new(Interface::Modern(modern), GFP_KERNEL)?)
    }
}

/// The common configuration.
struct Common(Arc<Registers>);

impl Model for Common {
    fn read(&self, offset: u64, _width: u64) -> u32 {
        let script = &self.0.script;
        let state = self.0.state.lock();
        match offset as usize {
            common::DEVICE_STATUS => state.status.into(),
            common::NUM_QUEUES => script.num_queues.into(),
            common::QUEUE_SIZE => script.queue_size.into(),
            common::QUEUE_NOTIFY_OFF => script.notify_off.into(),
            common::QUEUE_NOTIFY_DATA => script.notify_data.into(),
            common::QUEUE_ENABLE if state.enabled => script.enabled.into(),
            common::QUEUE_ENABLE => script.disabled.into(),
            common::QUEUE_RESET if state.resetting => script.resetting.into(),
            common::QUEUE_MSIX_VECTOR | common::CONFIG_MSIX_VECTOR => state.vector.into(),
            _ => 0,
        }
    }

    fn write(&self, offset: u64, _width: u64, value: u32) {
        let mut state = self.0.state.lock();
        match offset as usize {
            common::DEVICE_STATUS if value == 0 => state.status = self.0.script.after_reset,
            common::DEVICE_STATUS => state.status = value as u8,
            common::QUEUE_ENABLE => state.enabled = value == 1,
            common::QUEUE_RESET => {
                state.resetting = value == 1;
                if self.0.script.resetting == 0 {
                    state.enabled = false;
                }
            }
            common::QUEUE_MSIX_VECTOR | common::CONFIG_MSIX_VECTOR => {
                state.vector = if self.0.script.refuses_vectors {
                    MSI_NO_VECTOR
                } else {
                    value as u16
                };
            }
            _ => {}
        }
    }
}

/// Memory.
#[pin_data]
struct Bytes {
    #[pin]
    bytes: SpinLock<[u8; 16]>,
}

impl Bytes {
    fn new(bytes: [u8; 16]) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { bytes <- new_spinlock!(bytes) }),
            GFP_KERNEL,
        )
    }
}

struct Memory(Arc<Bytes>);

impl Model for Memory {
    fn read(&self, offset: u64, width: u64) -> u32 {
        let bytes = self.0.bytes.lock();
        bytes
            .iter()
            .skip(offset as usize)
            .take(width as usize)
            .rev()
            .fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    fn write(&self, offset: u64, width: u64, value: u32) {
        let mut bytes = self.0.bytes.lock();
        let target = bytes.iter_mut().skip(offset as usize).take(width as usize);
        for (to, from) in target.zip(value.to_le_bytes()) {
            *to = from;
        }
    }
}

/// The capabilities of a device whose structures follow each other in BAR 0 (section 4.1.4).
fn capabilities() -> Result<Capabilities> {
    const LIST: [(u8, u64); 4] = [
        (1, STRUCTURE_LEN),
        (2, NOTIFY_LEN),
        (3, STRUCTURE_LEN),
        (4, STRUCTURE_LEN),
    ];
    const CAP_LEN: usize = 20;
    let mut config = [0u8; 256];
    // The status register says that there is a list, which starts here.
    config[6] = 0x10;
    config[0x34] = 0x40;
    let mut offset = 0;
    for (index, (kind, len)) in LIST.into_iter().enumerate() {
        let start = 0x40 + index * CAP_LEN;
        let next = if index + 1 < LIST.len() {
            start + CAP_LEN
        } else {
            0
        };
        let cap = config.get_mut(start..start + CAP_LEN).ok_or(EINVAL)?;
        cap[..4].copy_from_slice(&[9, next as u8, CAP_LEN as u8, kind]);
        cap[8..12].copy_from_slice(&(offset as u32).to_le_bytes());
        cap[12..16].copy_from_slice(&(len as u32).to_le_bytes());
        // `notify_off_multiplier`, where it is one.
        cap[16..20].copy_from_slice(&4u32.to_le_bytes());
        offset += STRUCTURE_LEN;
    }
    let mut bars = [None; pci_ext::BARS];
    bars[0] = Some(BarInfo {
        len: 0x1000,
        kind: BarKind::Mem,
    });
    pci::parse_capabilities(&config, &bars).map_err(|_| EINVAL)
}

/// What `f` gives, and how long it took.
fn timed<R>(f: impl FnOnce() -> R) -> (R, Delta) {
    let start = Instant::<Monotonic>::now();
    let result = f();
    (result, start.elapsed())
}

#[kunit_tests(virtio_pci_registers)]
mod suite {
    use super::*;

    #[test]
    fn reset_ends_when_it_is_acknowledged() -> Result {
        let device = Registers::new(Script::HONEST)?.device()?;
        assert!(device.reset(Delta::from_secs(10)).is_reset());
        Ok(())
    }

    #[test]
    fn reset_that_is_never_acknowledged_ends_at_its_deadline() -> Result {
        let mut script = Script::HONEST;
        script.after_reset = 0x0f;
        let device = Registers::new(script)?.device()?;
        let deadline = Delta::from_millis(50);
        let (status, took) = timed(|| device.reset(deadline));
        assert_eq!(status.bits(), 0x0f);
        assert!(took >= deadline);
        assert!(took < Delta::from_secs(5));
        Ok(())
    }

    #[test]
    fn nobody_is_waited_for_where_all_is_ones() -> Result {
        let mut script = Script::HONEST;
        script.after_reset = u8::MAX;
        let device = Registers::new(script)?.device()?;
        let (status, took) = timed(|| device.reset(Delta::from_secs(10)));
        assert!(status.is_all_ones());
        assert!(took < Delta::from_secs(5));
        Ok(())
    }

    #[test]
    fn queue_is_enabled() -> Result {
        let device = Registers::new(Script::HONEST)?.device()?;
        let Interface::Modern(modern) = &*device else {
            return Err(EINVAL);
        };
        modern.common.queue(0).enable();
        assert!(device.await_enabled(0).is_ok());
        Ok(())
    }

    #[test]
    fn queue_that_never_enables_ends_at_its_deadline() -> Result {
        let mut script = Script::HONEST;
        script.enabled = 0;
        let device = Registers::new(script)?.device()?;
        let (result, took) = timed(|| device.await_enabled(0));
        assert_eq!(result, Err(EIO));
        assert!(took >= Delta::from_secs(1));
        assert!(took < Delta::from_secs(8));
        Ok(())
    }

    #[test]
    fn queue_that_enables_as_nonsense_is_refused_at_once() -> Result {
        for value in [2, u16::MAX] {
            let mut script = Script::HONEST;
            script.disabled = value;
            let device = Registers::new(script)?.device()?;
            let (result, took) = timed(|| device.await_enabled(0));
            assert_eq!(result, Err(EIO));
            assert!(took < AT_ONCE);
        }
        Ok(())
    }

    #[test]
    fn queue_that_never_resets_ends_at_its_deadline() -> Result {
        let mut script = Script::HONEST;
        script.resetting = 1;
        let device = Registers::new(script)?.device()?;
        let (result, took) = timed(|| device.reset_queue(0));
        assert_eq!(result, Err(ETIMEDOUT));
        assert!(took < Delta::from_secs(20));
        assert!(!device.is_queue_reset(0));
        Ok(())
    }

    #[test]
    fn queue_of_all_ones_is_not_waited_for() -> Result {
        let mut script = Script::HONEST;
        script.resetting = u16::MAX;
        script.disabled = u16::MAX;
        let device = Registers::new(script)?.device()?;
        let (result, took) = timed(|| device.reset_queue(0));
        assert_eq!(result, Err(EIO));
        assert!(took < AT_ONCE);
        Ok(())
    }

    #[test]
    fn queue_that_resets_is_reset() -> Result {
        let device = Registers::new(Script::HONEST)?.device()?;
        assert!(device.reset_queue(0).is_ok());
        assert!(device.is_queue_reset(0));
        Ok(())
    }

    #[test]
    fn queue_that_is_not_there_or_in_use_is_not_taken() -> Result {
        let device = Registers::new(Script::HONEST)?.device()?;
        assert_eq!(device.queue_size(0), Ok(256));
        assert_eq!(device.queue_size(2), Err(EINVAL));
        let mut script = Script::HONEST;
        script.queue_size = 0;
        assert_eq!(Registers::new(script)?.device()?.queue_size(0), Err(ENOENT));
        script = Script::HONEST;
        script.disabled = 1;
        assert_eq!(Registers::new(script)?.device()?.queue_size(0), Err(ENOENT));
        Ok(())
    }

    #[test]
    fn sizes_of_rings() {
        for size in [1, 2, 256, 32768] {
            assert!(is_ring_size(size, false));
            assert!(is_ring_size(size, true));
        }
        for size in [3, 255, 32767] {
            assert!(!is_ring_size(size, false));
            assert!(is_ring_size(size, true));
        }
        for size in [0, 32769, u16::MAX] {
            assert!(!is_ring_size(size, false));
            assert!(!is_ring_size(size, true));
        }
    }

    #[test]
    fn vector_is_taken_and_given_back() -> Result {
        let registers = Registers::new(Script::HONEST)?;
        let assignment = Assignment::queue(&registers.device()?, 0, 3)?;
        assert_eq!(registers.state.lock().vector, 3);
        drop(assignment);
        assert_eq!(registers.state.lock().vector, MSI_NO_VECTOR);
        Ok(())
    }

    #[test]
    fn vector_that_is_not_taken_is_an_error() -> Result {
        let mut script = Script::HONEST;
        script.refuses_vectors = true;
        let registers = Registers::new(script)?;
        let device = registers.device()?;
        assert_eq!(Assignment::queue(&device, 0, 1).map(drop), Err(EBUSY));
        assert_eq!(Assignment::config(&device, 0).map(drop), Err(EBUSY));
        Ok(())
    }

    #[test]
    fn notification_register_outside_of_its_region_is_refused() -> Result {
        let format = Format::new(Features::EMPTY);
        for (notify_off, expected) in [
            // Inside: but there is nothing that could be mapped.
            (0, ENODEV),
            (3, ENODEV),
            (4, EINVAL),
            (u16::MAX, EINVAL),
        ] {
            let mut script = Script::HONEST;
            script.notify_off = notify_off;
            let device = Registers::new(script)?.device()?;
            assert_eq!(device.doorbell(0, format).map(drop), Err(expected));
        }
        Ok(())
    }

    #[test]
    fn unmapped_registers_read_as_nobody() -> Result {
        let registers = Registers::new(Script::HONEST)?;
        let device = registers.device()?;
        device.unmap();
        assert!(device.status().is_all_ones());
        device.set_status(Status::ACKNOWLEDGE);
        assert_eq!(registers.state.lock().status, 0xf);
        Ok(())
    }

    #[test]
    fn accesses_outside_of_a_window_do_not_happen() -> Result {
        let bytes = Bytes::new([0x55; 16])?;
        let window = Window::model(6, KBox::new(Memory(bytes.clone()), GFP_KERNEL)?)?;
        assert_eq!(window.read32(0), 0x5555_5555);
        // Not wholly inside, misaligned, and far away.
        assert_eq!(window.read32(4), u32::MAX);
        assert_eq!(window.read16(1), u16::MAX);
        assert_eq!(window.read8(6), u8::MAX);
        assert_eq!(window.read8(u64::MAX), u8::MAX);
        window.write32(4, 0);
        window.write16(1, 0);
        window.write8(6, 0);
        assert_eq!(*bytes.bytes.lock(), [0x55; 16]);
        Ok(())
    }

    #[test]
    fn device_configuration_ends_where_the_device_says() -> Result {
        let pci = pci_ext::Device::any().ok_or(ENODEV)?;
        let bytes = Bytes::new(core::array::from_fn(|i| i as u8 + 1))?;
        let window = Window::model(6, KBox::new(Memory(bytes.clone()), GFP_KERNEL)?)?;
        let config = DeviceConfig::model(pci, Some(window));
        let mut read = [0xaa; 8];
        config.read(0, &mut read);
        assert_eq!(read, [1, 2, 3, 4, 0, 0, 0, 0]);
        let mut read = [0xaa; 6];
        config.read(2, &mut read);
        assert_eq!(read, [3, 4, 5, 6, 0, 0]);
        let mut read = [0xaa; 4];
        config.read(u32::MAX, &mut read);
        assert_eq!(read, [0; 4]);
        config.write(4, &[0; 4]);
        config.write(4, &[0; 2]);
        assert_eq!(bytes.bytes.lock()[..8], [1, 2, 3, 4, 0, 0, 7, 8]);
        Ok(())
    }

    #[test]
    fn device_without_configuration_reads_as_zeroes() -> Result {
        let pci = pci_ext::Device::any().ok_or(ENODEV)?;
        let config = DeviceConfig::model(pci, None);
        let mut read = [0xaa; 4];
        config.read(0, &mut read);
        assert_eq!(read, [0; 4]);
        config.write(0, &[1; 4]);
        Ok(())
    }
}
