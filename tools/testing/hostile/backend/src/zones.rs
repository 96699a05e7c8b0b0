// SPDX-License-Identifier: GPL-2.0

//! The zones of a host-managed disk, as an honest device keeps them (specification 5.2.6).

use serde::Deserialize;

/// Status of a request that succeeded.
pub const OK: u8 = 0;
const INVALID_CMD: u8 = 3;
const UNALIGNED_WP: u8 = 4;
const OPEN_RESOURCE: u8 = 5;
const ACTIVE_RESOURCE: u8 = 6;

const HEADER: usize = 64;
const DESCRIPTOR: usize = 64;

/// What a scenario says of the zones; all in sectors, or zones.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Sectors of a zone.
    pub sectors: u64,
    /// Sectors of a sequential zone that can be written.
    pub capacity: u64,
    /// Conventional zones, which come first.
    pub conventional: usize,
    /// Open zones at most.
    pub open: u32,
    /// Active zones at most.
    pub active: u32,
    /// Sectors of an append at most.
    pub append: u32,
}

/// The state of a zone, as the specification numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    NoPointer = 0,
    Empty = 1,
    ImplicitlyOpen = 2,
    ExplicitlyOpen = 3,
    Closed = 4,
    Full = 14,
}

#[derive(Clone, Copy, Debug)]
struct Zone {
    state: State,
    /// Sectors that were written, from its start.
    written: u64,
}

/// What is to be done with a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Open,
    Close,
    Finish,
    Reset,
}

/// The zones of a disk.
pub struct Zones {
    layout: Layout,
    zones: Vec<Zone>,
}

impl Zones {
    /// The zones of a disk of `sectors`, empty.
    pub fn new(layout: Layout, sectors: u64) -> Self {
        let zones = (0..(sectors / layout.sectors) as usize).map(|at| Zone {
            state: if at < layout.conventional {
                State::NoPointer
            } else {
                State::Empty
            },
            written: 0,
        });
        Self {
            zones: zones.collect(),
            layout,
        }
    }

    /// `struct virtio_blk_zoned_characteristics` of the configuration.
    pub fn config(&self) -> Vec<u8> {
        let layout = &self.layout;
        let words = [
            layout.sectors as u32,
            layout.open,
            layout.active,
            layout.append,
            512,
            // Host-managed.
            1,
        ];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn count(&self, states: &[State]) -> u32 {
        let zones = self.zones.iter();
        zones.filter(|zone| states.contains(&zone.state)).count() as u32
    }

    /// Makes room for one more open zone; `opened` is what it is now.
    fn make_room(&mut self, opened: State) -> u8 {
        use State::*;
        if opened == Empty
            && self.count(&[ImplicitlyOpen, ExplicitlyOpen, Closed]) >= self.layout.active
        {
            return ACTIVE_RESOURCE;
        }
        if self.count(&[ImplicitlyOpen, ExplicitlyOpen]) < self.layout.open {
            return OK;
        }
        // One that the driver has not opened itself may be closed for another.
        match self
            .zones
            .iter_mut()
            .find(|zone| zone.state == ImplicitlyOpen)
        {
            Some(zone) => {
                zone.state = Closed;
                OK
            }
            None => OPEN_RESOURCE,
        }
    }

    fn index(&self, sector: u64) -> Option<usize> {
        let index = (sector / self.layout.sectors) as usize;
        (index < self.zones.len()).then_some(index)
    }

    /// Whether `count` sectors may be written at `sector`; they are, if so.
    pub fn write(&mut self, sector: u64, count: u64) -> u8 {
        let Some(index) = self.index(sector) else {
            return INVALID_CMD;
        };
        let offset = sector % self.layout.sectors;
        if offset + count > self.layout.sectors {
            return INVALID_CMD;
        }
        let Zone { state, written } = self.zones[index];
        match state {
            State::NoPointer => return OK,
            State::Full => return INVALID_CMD,
            _ if offset != written => return UNALIGNED_WP,
            _ if offset + count > self.layout.capacity => return INVALID_CMD,
            State::Empty | State::Closed => {
                let status = self.make_room(state);
                if status != OK {
                    return status;
                }
                self.zones[index].state = State::ImplicitlyOpen;
            }
            State::ImplicitlyOpen | State::ExplicitlyOpen => {}
        }
        let zone = &mut self.zones[index];
        zone.written += count;
        if zone.written == self.layout.capacity {
            zone.state = State::Full;
        }
        OK
    }

    /// Appends `count` sectors to the zone that begins at `sector`; says where they go.
    ///
    /// # Errors
    ///
    /// The status of a request that fails.
    pub fn append(&mut self, sector: u64, count: u64) -> Result<u64, u8> {
        let index = self.index(sector).ok_or(INVALID_CMD)?;
        let fits = count <= self.layout.append.into();
        if !sector.is_multiple_of(self.layout.sectors) || index < self.layout.conventional || !fits
        {
            return Err(INVALID_CMD);
        }
        let place = sector + self.zones[index].written;
        match self.write(place, count) {
            OK => Ok(place),
            status => Err(status),
        }
    }

    /// Does something with the zone that begins at `sector`.
    pub fn act(&mut self, sector: u64, action: Action) -> u8 {
        let Some(index) = self.index(sector) else {
            return INVALID_CMD;
        };
        let state = self.zones[index].state;
        if !sector.is_multiple_of(self.layout.sectors) || state == State::NoPointer {
            return INVALID_CMD;
        }
        let next = match (action, state) {
            (Action::Open, State::Full) | (Action::Close, State::Empty | State::Full) => {
                return INVALID_CMD;
            }
            (Action::Open, State::Empty | State::Closed) => {
                let status = self.make_room(state);
                if status != OK {
                    return status;
                }
                State::ExplicitlyOpen
            }
            (Action::Open, _) => State::ExplicitlyOpen,
            (Action::Close, _) if self.zones[index].written == 0 => State::Empty,
            (Action::Close, _) => State::Closed,
            (Action::Finish, _) => State::Full,
            (Action::Reset, _) => State::Empty,
        };
        let zone = &mut self.zones[index];
        zone.state = next;
        match action {
            Action::Finish => zone.written = self.layout.sectors,
            Action::Reset => zone.written = 0,
            Action::Open | Action::Close => {}
        }
        OK
    }

    /// Resets all zones that can be.
    pub fn reset_all(&mut self) -> u8 {
        for zone in &mut self.zones {
            if zone.state != State::NoPointer {
                zone.state = State::Empty;
                zone.written = 0;
            }
        }
        OK
    }

    /// The sectors of the sequential zone that has `sector`, or of all; first one and number.
    pub fn place(&self, sector: Option<u64>) -> (u64, u64) {
        let size = self.layout.sectors;
        match sector {
            Some(sector) => (sector / size * size, size),
            None => {
                let first = self.layout.conventional as u64 * size;
                (first, self.zones.len() as u64 * size - first)
            }
        }
    }

    /// A report of the zones from that of `sector` on, of at most `space` bytes.
    pub fn report(&self, sector: u64, space: usize) -> Vec<u8> {
        let first = (sector / self.layout.sectors) as usize;
        let most = space.saturating_sub(HEADER) / DESCRIPTOR;
        let zones = self.zones.iter().enumerate().skip(first).take(most);
        let mut report = vec![0; HEADER];
        report[..8].copy_from_slice(&(zones.len() as u64).to_le_bytes());
        for (index, zone) in zones {
            let start = index as u64 * self.layout.sectors;
            let (capacity, kind) = match zone.state {
                State::NoPointer => (self.layout.sectors, 1),
                _ => (self.layout.capacity, 2),
            };
            for word in [capacity, start, start + zone.written] {
                report.extend(word.to_le_bytes());
            }
            report.extend([kind, zone.state as u8]);
            report.resize(report.len() + DESCRIPTOR - 26, 0);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let layout = Layout {
            sectors: 64,
            capacity: 48,
            conventional: 1,
            open: 1,
            active: 2,
            append: 16,
        };
        Zones::new(layout, 64 * 5)
    }

    #[test]
    fn writes_follow_the_pointer() {
        let mut zones = zones();
        assert_eq!(zones.write(9, 8), OK);
        assert_eq!(zones.write(65, 1), UNALIGNED_WP);
        assert_eq!(zones.write(64, 47), OK);
        assert_eq!(zones.append(64, 1), Ok(64 + 47));
        assert_eq!(zones.write(64 + 48, 1), INVALID_CMD);
        assert_eq!(zones.append(64, 1), Err(INVALID_CMD));
        assert_eq!(zones.append(0, 1), Err(INVALID_CMD));
        assert_eq!(zones.append(128, 17), Err(INVALID_CMD));
    }

    #[test]
    fn open_and_active_zones_are_few() {
        let mut zones = zones();
        assert_eq!(zones.act(64, Action::Open), OK);
        assert_eq!(zones.act(128, Action::Open), OPEN_RESOURCE);
        assert_eq!(zones.act(64, Action::Close), OK);
        assert_eq!(zones.write(64, 1), OK);
        // Implicitly open: closed for another.
        assert_eq!(zones.act(128, Action::Open), OK);
        assert_eq!(zones.write(192, 1), ACTIVE_RESOURCE);
        assert_eq!(zones.act(64, Action::Finish), OK);
        assert_eq!(zones.write(192, 1), OPEN_RESOURCE);
        assert_eq!(zones.reset_all(), OK);
        assert_eq!(zones.write(192, 1), OK);
    }

    #[test]
    fn reports_are_as_long_as_there_is_room() {
        let zones = zones();
        let report = zones.report(70, HEADER + 2 * DESCRIPTOR + 1);
        assert_eq!(report.len(), HEADER + 2 * DESCRIPTOR);
        assert_eq!(report[0], 2);
        assert_eq!(report[HEADER..HEADER + 26], {
            let mut zone = [0; 26];
            (zone[0], zone[8], zone[16], zone[24], zone[25]) = (48, 64, 64, 2, 1);
            zone
        });
    }
}
