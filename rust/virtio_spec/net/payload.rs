// SPDX-License-Identifier: GPL-2.0

//! Data of the commands of the control queue (section 5.1.9.5) but for those that have a module of
//! their own, and what is asked for with them.
//!
//! C: `virtnet_rx_mode_work`, `virtnet_vlan_rx_add_vid`, `virtnet_set_queues` and
//! `virtnet_send_ctrl_coal_vq_cmd` in `drivers/net/virtio_net.c`.

use super::ctrl::{Coal, CoalVq};
use super::offloads::GuestOffloads;
use crate::config::Scalar;
use crate::features::Features;
use crate::transport::Version1;

/// Bytes of a MAC address.
pub const MAC_LEN: usize = 6;

/// Bytes of the number of addresses in a table.
const COUNT_LEN: usize = 4;

/// Largest VLAN id (IEEE 802.1Q has 12 bits).
const MAX_VLAN: u16 = 0xfff;

/// The byte order of the fields that the legacy interface has in that of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Little-endian.
    Little,
    /// The guest's.
    Native,
}

impl Order {
    /// That of a device with the negotiated `features`.
    pub const fn of(features: Features) -> Self {
        if features.has::<Version1>() {
            Self::Little
        } else {
            Self::Native
        }
    }

    fn encode<T: Scalar>(self, value: T) -> T::Bytes {
        match self {
            Self::Little => value.encode_le(),
            Self::Native => value.encode_native(),
        }
    }

    /// The data of `VLAN_ADD` and `VLAN_DEL`; `None` for what is no VLAN id.
    #[inline]
    pub fn vlan(self, id: u16) -> Option<[u8; 2]> {
        (id <= MAX_VLAN).then(|| self.encode(id))
    }

    /// The data of `MQ_VQ_PAIRS_SET`; `None` unless there are so many of `max` pairs.
    #[inline]
    pub fn queue_pairs(self, pairs: u16, max: u16) -> Option<[u8; 2]> {
        (1..=max).contains(&pairs).then(|| self.encode(pairs))
    }

    /// The data of `GUEST_OFFLOADS_SET`.
    #[inline]
    pub fn guest_offloads(self, offloads: GuestOffloads) -> [u8; 8] {
        self.encode(offloads.bits())
    }
}

/// The data of commands that switch something on or off.
pub const fn switch(on: bool) -> [u8; 1] {
    [on as u8]
}

/// What a device is asked to let through, and which addresses it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxMode {
    /// Everything.
    pub promiscuous: bool,
    /// Every multicast.
    pub all_multicast: bool,
    /// How many unicast addresses are in the table.
    pub unicast: usize,
    /// How many multicast addresses are.
    pub multicast: usize,
    /// What is asked for beside that of a device with [`super::CtrlRxExtra`].
    pub extra: Extra,
}

/// What a device with [`super::CtrlRxExtra`] can be asked for too.  That it lets through nothing that is
/// sent to its own address, or to all, no interface of the kernel can want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extra {
    /// Everything that is sent to one.
    pub all_unicast: bool,
    /// Nothing that is sent to many, but to all.
    pub no_multicast: bool,
}

impl RxMode {
    /// What is asked for with a table that has room for so many addresses: more than fit are
    /// not filtered, so that no packet gets lost.
    #[must_use]
    pub const fn within(self, room: usize) -> Self {
        if self.unicast > room {
            Self {
                promiscuous: true,
                all_multicast: true,
                unicast: 0,
                multicast: 0,
                ..self
            }
        } else if self.multicast > room - self.unicast {
            Self {
                all_multicast: true,
                multicast: 0,
                ..self
            }
        } else {
            self
        }
    }

    /// As [`RxMode::within`], of a device that can be asked for more: too many unicast addresses do not
    /// let everything else through, and an interface that is not for multicasts hears of none unless
    /// somebody wants all of them.
    #[must_use]
    pub const fn within_extra(self, room: usize, not_for_multicast: bool) -> Self {
        let all_unicast = self.unicast > room;
        let fits = if all_unicast {
            Self { unicast: 0, ..self }
        } else {
            self
        };
        let extra = Extra {
            all_unicast,
            no_multicast: not_for_multicast && !self.promiscuous && !self.all_multicast,
        };
        Self {
            extra,
            ..fits.within(room)
        }
    }

    /// Bytes of the table.
    pub const fn table_size(self) -> usize {
        (self.unicast + self.multicast) * MAC_LEN + 2 * COUNT_LEN
    }
}

/// No room for an address, or more addresses than a count has bits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// Writes the data of `MAC_TABLE_SET`: a table of unicast addresses, and one of multicast addresses
/// behind it.
pub struct MacTables<'a> {
    order: Order,
    out: &'a mut [u8],
    /// Where the count of the table is that is being written.
    table: usize,
    /// How many addresses are in it.
    count: u32,
    len: usize,
}

impl<'a> MacTables<'a> {
    /// Starts with the table of unicast addresses, at the start of `out`.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] if not even two empty tables fit.
    pub fn new(order: Order, out: &'a mut [u8]) -> Result<Self, NoRoom> {
        if out.len() < 2 * COUNT_LEN {
            return Err(NoRoom);
        }
        Ok(Self {
            order,
            out,
            table: 0,
            count: 0,
            len: COUNT_LEN,
        })
    }

    /// Appends an address to the table.
    ///
    /// # Errors
    ///
    /// [`NoRoom`]; the tables are as before.
    pub fn push(&mut self, address: [u8; MAC_LEN]) -> Result<(), NoRoom> {
        let count = self.count.checked_add(1).ok_or(NoRoom)?;
        let end = self.len + MAC_LEN;
        // The count of the table of multicast addresses must fit too.
        let reserved = if self.table == 0 { COUNT_LEN } else { 0 };
        if end + reserved > self.out.len() {
            return Err(NoRoom);
        }
        let room = self.out.get_mut(self.len..end).ok_or(NoRoom)?;
        room.copy_from_slice(&address);
        self.len = end;
        self.count = count;
        Ok(())
    }

    /// Writes the count of the table.
    fn close(&mut self) {
        let count = self.order.encode(self.count);
        if let Some(room) = self.out.get_mut(self.table..self.table + COUNT_LEN) {
            room.copy_from_slice(&count);
        }
    }

    /// Goes on with the table of multicast addresses.
    #[must_use]
    pub fn multicast(mut self) -> Self {
        self.close();
        self.table = self.len;
        self.count = 0;
        self.len += COUNT_LEN;
        self
    }

    /// How many bytes the data has.
    pub fn finish(mut self) -> usize {
        if self.table == 0 {
            self = self.multicast();
        }
        self.close();
        self.len
    }
}

/// A virtqueue, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// The receive queue of a pair.
    Receive(u16),
    /// The transmit queue of a pair.
    Transmit(u16),
    /// The control queue.
    Control,
}

impl Queue {
    /// The number of the queue on a device with so many pairs (section 5.1.2), if it has it.
    pub const fn index(self, pairs: u16) -> Option<u16> {
        match self {
            Self::Receive(pair) if pair < pairs => pair.checked_mul(2),
            Self::Transmit(pair) if pair < pairs => match pair.checked_mul(2) {
                Some(index) => Some(index + 1),
                None => None,
            },
            Self::Control => pairs.checked_mul(2),
            _ => None,
        }
    }

    /// Queue `index` of a device with so many pairs, if it has one.
    pub fn of_index(index: u16, pairs: u16) -> Option<Self> {
        let pair = index / 2;
        match index % 2 {
            0 if pair < pairs => Some(Self::Receive(pair)),
            1 if pair < pairs => Some(Self::Transmit(pair)),
            0 if pair == pairs && pairs != 0 => Some(Self::Control),
            _ => None,
        }
    }
}

/// When a device notifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coalescing {
    /// After so many microseconds at the latest.
    pub max_usecs: u32,
    /// After so many packets at the latest.
    pub max_packets: u32,
}

impl Coalescing {
    /// The data of `NOTF_COAL_TX_SET` and `NOTF_COAL_RX_SET`, which also is what a device answers
    /// to `NOTF_COAL_VQ_GET`.
    pub fn all(self) -> Coal {
        Coal {
            max_packets: self.max_packets.into(),
            max_usecs: self.max_usecs.into(),
        }
    }

    /// The data of `NOTF_COAL_VQ_SET` for queue `index`.
    pub fn of_queue(self, index: u16) -> CoalVq {
        CoalVq {
            vqn: index.into(),
            reserved: 0.into(),
            coal: self.all(),
        }
    }

    /// What the device answered to `NOTF_COAL_VQ_GET`.
    pub fn from_answer(answer: &Coal) -> Self {
        Self {
            max_usecs: answer.max_usecs.get(),
            max_packets: answer.max_packets.get(),
        }
    }
}

/// The data of `NOTF_COAL_VQ_GET` for queue `index`: the fields of [`CoalVq`] that the driver
/// writes.
pub fn coalescing_of(index: u16) -> [u8; 4] {
    let [low, high] = index.to_le_bytes();
    [low, high, 0, 0]
}
