//! How many bytes may be here that nobody has proved yet to be somebody's: in all, and from one address.

use std::net::IpAddr;

use kiln_auth::{Origin, Place, Places};

use crate::config::Limits;

/// The bytes that there is room for.
#[derive(Clone, Debug)]
pub struct UnprovedBytes {
    all: Places,
    of_address: Places<IpAddr>,
}

/// What one body takes of them, byte by byte as it comes; given back when dropped.
#[derive(Debug)]
pub struct Unproved {
    all: Place,
    of_address: Place<IpAddr>,
}

/// There is no room for so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TooMuch {
    /// From anybody.
    #[error("too much is on its way here that isn't proved yet; try again")]
    All,
    /// From this address; others may still send.
    #[error("too much is on its way from this address that isn't proved yet; try again when some has arrived")]
    Address,
}

// === impl UnprovedBytes ===

impl UnprovedBytes {
    pub(super) fn new(limits: &Limits) -> Self {
        let places = Self { all: Places::new(0), of_address: Places::new(0) };
        places.set(limits);
        places
    }

    pub(super) fn set(&self, limits: &Limits) {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.all.set(bytes(limits.unproved));
        self.of_address.set(bytes(limits.unproved_per_address));
    }

    /// Begins to count a body of which `announced` bytes are to come at least. Those are looked at and
    /// not taken: else whoever announces much and sends nothing would keep others out.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn begin(&self, origin: Origin, announced: u64) -> Result<Unproved, TooMuch> {
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        let address = origin.network();
        if self.of_address.left(&address) < announced {
            return Err(TooMuch::Address);
        }
        if self.all.left(&()) < announced {
            return Err(TooMuch::All);
        }
        Ok(Unproved { all: self.all.none(()), of_address: self.of_address.none(address) })
    }
}

// === impl Unproved ===

impl Unproved {
    /// Counts bytes that have come.
    ///
    /// # Errors
    /// When there is no room for them; those before them are counted until this is dropped.
    pub fn add(&mut self, bytes: usize) -> Result<(), TooMuch> {
        if !self.of_address.grow(bytes) {
            return Err(TooMuch::Address);
        }
        if self.all.grow(bytes) { Ok(()) } else { Err(TooMuch::All) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(from: &str) -> Origin {
        Origin { from: from.parse().unwrap(), door: "openfaas" }
    }

    #[test]
    fn bytes_are_counted_by_address_and_in_all_and_come_back() {
        let limits = Limits { unproved: 100, unproved_per_address: 60, ..Limits::default() };
        let bytes = UnprovedBytes::new(&limits);
        assert_eq!(bytes.begin(origin("192.0.2.1"), 61).unwrap_err(), TooMuch::Address);
        let mut one = bytes.begin(origin("192.0.2.1"), 60).unwrap();
        assert_eq!((one.add(50), one.add(11)), (Ok(()), Err(TooMuch::Address)));
        // A network of IPv6 is one sender.
        let mut two = bytes.begin(origin("2001:db8::1"), 0).unwrap();
        assert_eq!(two.add(40), Ok(()));
        assert_eq!(bytes.begin(origin("2001:db8::ffff"), 21).unwrap_err(), TooMuch::Address);
        assert_eq!(bytes.begin(origin("2001:db8:0:1::1"), 11).unwrap_err(), TooMuch::All);
        let mut three = bytes.begin(origin("2001:db8:0:1::1"), 0).unwrap();
        assert_eq!((three.add(10), three.add(1)), (Ok(()), Err(TooMuch::All)));
        drop((one, two, three));
        assert_eq!((bytes.all.left(&()), bytes.of_address.left(&origin("2001:db8::1").network())), (100, 60));
        bytes.set(&Limits { unproved: 1, ..limits });
        assert_eq!(bytes.begin(origin("192.0.2.1"), 2).unwrap_err(), TooMuch::All);
    }
}
