// SPDX-License-Identifier: GPL-2.0

//! Virtio device types (section 5), the `device` member of `struct virtio_device_id`.

use core::fmt;

/// A virtio device type, as in `VIRTIO_ID_*` of `include/uapi/linux/virtio_ids.h`.
///
/// Type 0 is reserved: a device that reports it is not to be driven (section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct DeviceType(u32);

macro_rules! device_types {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal;)*) => {
        impl DeviceType {
            $($(#[$doc])* pub const $name: Self = Self($id);)*

            /// The short name of this type, or `None` for one that is not known here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($id => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

device_types! {
    /// Reserved (section 5).
    RESERVED = 0, "reserved";
    /// Network device (section 5.1).
    NET = 1, "net";
    /// Block device (section 5.2).
    BLOCK = 2, "block";
    /// Console device (section 5.3).
    CONSOLE = 3, "console";
    /// Entropy device (section 5.4).
    RNG = 4, "rng";
    /// Traditional memory balloon device (section 5.5).
    BALLOON = 5, "balloon";
    /// I/O memory.
    IOMEM = 6, "iomem";
    /// Remote processor messaging.
    RPMSG = 7, "rpmsg";
    /// SCSI host device (section 5.6).
    SCSI = 8, "scsi";
    /// 9P transport.
    P9 = 9, "9p";
    /// mac80211 WLAN.
    MAC80211_WLAN = 10, "mac80211-wlan";
    /// Remote processor serial link.
    RPROC_SERIAL = 11, "rproc-serial";
    /// CAIF.
    CAIF = 12, "caif";
    /// Memory balloon, the new one, never specified.
    MEMORY_BALLOON = 13, "memory-balloon";
    /// GPU device (section 5.7).
    GPU = 16, "gpu";
    /// Timer and clock device.
    CLOCK = 17, "clock";
    /// Input device (section 5.8).
    INPUT = 18, "input";
    /// Socket device (section 5.10).
    VSOCK = 19, "vsock";
    /// Crypto device (section 5.9).
    CRYPTO = 20, "crypto";
    /// Signal distribution module.
    SIGNAL_DIST = 21, "signal-dist";
    /// Pstore device.
    PSTORE = 22, "pstore";
    /// IOMMU device (section 5.13).
    IOMMU = 23, "iommu";
    /// Memory device (section 5.15).
    MEM = 24, "mem";
    /// Sound device (section 5.14).
    SOUND = 25, "sound";
    /// File system device (section 5.11).
    FS = 26, "fs";
    /// Persistent memory device (section 5.19).
    PMEM = 27, "pmem";
    /// Replay protected memory block device (section 5.12).
    RPMB = 28, "rpmb";
    /// mac80211 hwsim wireless simulation device.
    MAC80211_HWSIM = 29, "mac80211-hwsim";
    /// Video encoder device.
    VIDEO_ENCODER = 30, "video-encoder";
    /// Video decoder device.
    VIDEO_DECODER = 31, "video-decoder";
    /// SCMI device (section 5.17).
    SCMI = 32, "scmi";
    /// Nitro secure module.
    NITRO_SEC_MOD = 33, "nitro-sec-mod";
    /// I2C adapter (section 5.16).
    I2C_ADAPTER = 34, "i2c-adapter";
    /// Watchdog.
    WATCHDOG = 35, "watchdog";
    /// CAN device.
    CAN = 36, "can";
    /// DMA-buf device.
    DMABUF = 37, "dmabuf";
    /// Parameter server.
    PARAM_SERV = 38, "param-serv";
    /// Audio policy device.
    AUDIO_POLICY = 39, "audio-policy";
    /// Bluetooth device.
    BT = 40, "bt";
    /// GPIO device (section 5.18).
    GPIO = 41, "gpio";
    /// SPI controller.
    SPI = 45, "spi";
    /// Media device.
    MEDIA = 48, "media";
}

impl DeviceType {
    /// Takes a raw `virtio_device_id.device`; every value is a type, if perhaps not a known one.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The raw `virtio_device_id.device`.
    pub const fn id(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "virtio device type {}", self.0),
        }
    }
}
