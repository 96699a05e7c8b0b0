// SPDX-License-Identifier: GPL-2.0

//! The device in the guest itself: VDUSE, a virtio device in user space behind the kernel's vDPA bus
//! (`Documentation/userspace-api/vduse.rst`, `include/uapi/linux/vduse.h` of the kernel).

use crate::{
    backend::Hostile,
    ring::Layout, //
};
use std::{
    error::Error,
    fs::{
        File,
        OpenOptions, //
    },
    io::{
        self,
        Read,
        Write, //
    },
    os::{
        fd::{
            AsRawFd,
            FromRawFd, //
        },
        raw::{
            c_int,
            c_ulong, //
        },
    },
    path::Path,
};
use vhost_user_backend::VhostUserBackendMut;
use virtio_bindings::bindings::{
    virtio_config::{
        VIRTIO_CONFIG_S_DRIVER_OK,
        VIRTIO_F_ACCESS_PLATFORM,
        VIRTIO_F_RING_PACKED, //
    },
    virtio_ring::VIRTIO_RING_F_EVENT_IDX,
};
use vm_memory::{
    FileOffset,
    GuestAddress,
    GuestMemoryBackend,
    GuestMemoryMmap, //
};
use vmm_sys_util::{
    epoll::{
        ControlOperation,
        Epoll,
        EpollEvent,
        EventSet, //
    },
    eventfd::EventFd,
    ioctl::ioctl_with_mut_ref,
    ioctl_ior_nr,
    ioctl_iow_nr,
    ioctl_iowr_nr, //
};

const VIRTIO_ID_BLOCK: u32 = 2;
const VDUSE: u32 = 0x81;
const QUEUE_SIZE: u16 = 128;
const ALIGNMENT: u32 = 4096;
const CONFIG_SIZE: usize = 96;
/// Bytes of a message and of its answer.
const MESSAGE: usize = 152;
const GET_VQ_STATE: u32 = 0;
const SET_STATUS: u32 = 1;
const MESSAGE_EVENT: u64 = 0;
const KICK_EVENT: u64 = 1;

/// `struct vduse_dev_config`, without its end.
#[repr(C)]
struct DeviceHeader {
    name: [u8; 256],
    vendor_id: u32,
    device_id: u32,
    features: u64,
    vq_num: u32,
    vq_align: u32,
    reserved: [u32; 13],
    config_size: u32,
}

/// `struct vduse_dev_config`.
#[repr(C)]
struct DeviceConfig {
    header: DeviceHeader,
    config: [u8; CONFIG_SIZE],
}

/// `struct vduse_vq_config`.
#[repr(C)]
struct QueueConfig {
    index: u32,
    max_size: u16,
    reserved: [u16; 13],
}

/// `struct vduse_vq_info`.
#[repr(C)]
#[derive(Default)]
struct QueueInfo {
    index: u32,
    num: u32,
    desc: u64,
    driver: u64,
    device: u64,
    state: [u16; 4],
    ready: u8,
}

/// `struct vduse_vq_eventfd`.
#[repr(C)]
struct KickFd {
    index: u32,
    fd: c_int,
}

/// `struct vduse_iotlb_entry`.
#[repr(C)]
struct Region {
    offset: u64,
    start: u64,
    last: u64,
    perm: u8,
}

ioctl_iow_nr!(VDUSE_SET_API_VERSION, VDUSE, 0x01, u64);
ioctl_iow_nr!(VDUSE_CREATE_DEV, VDUSE, 0x02, DeviceHeader);
ioctl_iowr_nr!(VDUSE_IOTLB_GET_FD, VDUSE, 0x10, Region);
ioctl_ior_nr!(VDUSE_DEV_GET_FEATURES, VDUSE, 0x11, u64);
ioctl_iow_nr!(VDUSE_VQ_SETUP, VDUSE, 0x14, QueueConfig);
ioctl_iowr_nr!(VDUSE_VQ_GET_INFO, VDUSE, 0x15, QueueInfo);
ioctl_iow_nr!(VDUSE_VQ_SETUP_KICKFD, VDUSE, 0x16, KickFd);
ioctl_iow_nr!(VDUSE_VQ_INJECT_IRQ, VDUSE, 0x17, u32);

/// Has the kernel do `request`, of this file's, whose argument is a `T`.
#[expect(unsafe_code, reason = "an ioctl")]
fn control<T>(file: &File, request: c_ulong, argument: &mut T) -> io::Result<c_int> {
    // SAFETY: The requests above are made of the types of their arguments, each of which is as the kernel has
    // it; the kernel accesses no more than that, but for the configuration behind `DeviceHeader`.
    match unsafe { ioctl_with_mut_ref(file, request, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// The file that a request has returned.
#[expect(unsafe_code, reason = "an ioctl that opens a file")]
fn opened(fd: c_int) -> File {
    // SAFETY: Opened by the kernel for us, and nobody else has it.
    unsafe { File::from_raw_fd(fd) }
}

/// All memory that the driver shares with the device now.
fn map(device: &File) -> Result<GuestMemoryMmap, Box<dyn Error>> {
    let mut regions = Vec::new();
    let mut start = 0;
    loop {
        let mut region = Region {
            offset: 0,
            start,
            last: u64::MAX,
            perm: 0,
        };
        let Ok(fd) = control(device, VDUSE_IOTLB_GET_FD(), &mut region) else {
            break;
        };
        let size = usize::try_from(region.last - region.start)? + 1;
        let place = FileOffset::new(opened(fd), region.offset);
        regions.push((GuestAddress(region.start), size, Some(place)));
        let Some(next) = region.last.checked_add(1) else {
            break;
        };
        start = next;
    }
    Ok(GuestMemoryMmap::from_ranges_with_files(regions)?)
}

struct Device {
    hostile: Hostile,
    file: File,
    kick: EventFd,
    memory: Option<GuestMemoryMmap>,
}

/// Serves the device called `name` for as long as it is there; who wants it adds it to the vDPA bus when it is
/// `ready`.
///
/// # Errors
///
/// A kernel without VDUSE, or that does not take the device.
pub fn serve(name: &str, hostile: Hostile) -> Result<(), Box<dyn Error>> {
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let all = open(Path::new("/dev/vduse/control"))?;
    control(&all, VDUSE_SET_API_VERSION(), &mut 0_u64)?;
    let mut config = DeviceConfig {
        header: DeviceHeader {
            name: [0; 256],
            vendor_id: 0,
            device_id: VIRTIO_ID_BLOCK,
            features: hostile.features() & !(1 << 30) | 1 << VIRTIO_F_ACCESS_PLATFORM,
            vq_num: 1,
            vq_align: ALIGNMENT,
            reserved: [0; 13],
            config_size: CONFIG_SIZE as u32,
        },
        config: [0; CONFIG_SIZE],
    };
    for (to, from) in config.header.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    for (to, from) in config.config.iter_mut().zip(hostile.config()) {
        *to = *from;
    }
    control(&all, VDUSE_CREATE_DEV(), &mut config)?;
    let mut device = Device {
        hostile,
        file: open(&Path::new("/dev/vduse").join(name))?,
        kick: EventFd::new(0)?,
        memory: None,
    };
    let mut queue = QueueConfig {
        index: 0,
        max_size: QUEUE_SIZE,
        reserved: [0; 13],
    };
    control(&device.file, VDUSE_VQ_SETUP(), &mut queue)?;
    println!("ready");
    device.run()
}

impl Device {
    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let epoll = Epoll::new()?;
        for (fd, event) in [
            (self.file.as_raw_fd(), MESSAGE_EVENT),
            (self.kick.as_raw_fd(), KICK_EVENT),
        ] {
            epoll.ctl(
                ControlOperation::Add,
                fd,
                EpollEvent::new(EventSet::IN, event),
            )?;
        }
        let mut events = [EpollEvent::default(); 2];
        loop {
            let count = match epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                if event.data() == MESSAGE_EVENT {
                    self.answer()?;
                } else {
                    self.kick.read()?;
                    if let Err(error) = self.kicked() {
                        println!("queue 0: {error}");
                    }
                }
            }
        }
    }

    fn info(&self) -> io::Result<QueueInfo> {
        let mut info = QueueInfo::default();
        control(&self.file, VDUSE_VQ_GET_INFO(), &mut info)?;
        Ok(info)
    }

    /// Answers a message of the kernel's: `struct vduse_dev_request`, `struct vduse_dev_response`.
    fn answer(&mut self) -> Result<(), Box<dyn Error>> {
        let mut message = [0; MESSAGE];
        self.file.read_exact(&mut message)?;
        let mut answer = [0; MESSAGE];
        answer[..4].copy_from_slice(&message[4..8]);
        match u32::from_le_bytes(message[..4].try_into()?) {
            GET_VQ_STATE => {
                let index = self.hostile.base(0).unwrap_or_default();
                answer[24..28].copy_from_slice(&message[24..28]);
                answer[28..30].copy_from_slice(&index.to_le_bytes());
            }
            // With 0, what the driver shares is gone.
            SET_STATUS if message[24] == 0 => {
                self.hostile.stop();
                self.memory = None;
            }
            // The kernel forgets it with each reset; a kick that came before is signalled now.
            SET_STATUS if u32::from(message[24]) & VIRTIO_CONFIG_S_DRIVER_OK != 0 => {
                let mut kick = KickFd {
                    index: 0,
                    fd: self.kick.as_raw_fd(),
                };
                control(&self.file, VDUSE_VQ_SETUP_KICKFD(), &mut kick)?;
            }
            _ => {}
        }
        self.file.write_all(&answer)?;
        Ok(())
    }

    fn kicked(&mut self) -> Result<(), Box<dyn Error>> {
        let info = self.info()?;
        if info.ready == 0 {
            return Ok(());
        }
        // Memory for data comes after the first of it.
        let known = self.memory.as_ref();
        if known.is_none_or(|memory| memory.find_region(GuestAddress(0)).is_none()) {
            self.memory = Some(map(&self.file)?);
        }
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        let mut features = 0_u64;
        control(&self.file, VDUSE_DEV_GET_FEATURES(), &mut features)?;
        let layout = Layout {
            desc: info.desc,
            driver: info.driver,
            device: info.device,
            size: info.num as u16,
            packed: features >> VIRTIO_F_RING_PACKED & 1 != 0,
            event_idx: features >> VIRTIO_RING_F_EVENT_IDX & 1 != 0,
        };
        let result = self.hostile.run(0, layout, info.state[0], memory);
        for _ in 0..result? {
            control(&self.file, VDUSE_VQ_INJECT_IRQ(), &mut 0_u32)?;
        }
        Ok(())
    }
}
