//! Room on the disk for all downloads together: what one was promised is not promised to another.
//!
//! A promise shrinks as bytes arrive. The rest of the machine may still fill the disk, so writing can fail all the same; a
//! download then waits here until there is room again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::storage::files::{During as _, free_space};
use crate::storage::locked;

/// Left for everything else that lives on the volume.
const MARGIN: u64 = 256 * 1024 * 1024;

type Remaining = Box<dyn Fn() -> u64 + Send + Sync>;

pub(super) struct Space {
    folder: PathBuf,
    promised: Mutex<HashMap<String, Remaining>>,
}

impl Space {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            promised: Mutex::default(),
        }
    }

    /// Bytes that nobody was promised, apart from one, with what is left for everything else.
    fn unpromised(&self, apart_from: &str) -> Result<u64> {
        let others: u64 = locked(&self.promised)
            .iter()
            .filter(|(owner, _)| *owner != apart_from)
            .map(|(_, remaining)| remaining())
            .sum();
        let free = free_space(&self.folder).during("Asking for free space")?;
        Ok(free.saturating_sub(others))
    }

    /// What may be promised to a new owner.
    ///
    /// # Errors
    /// What the disk refuses.
    pub(super) fn room(&self) -> Result<u64> {
        Ok(self.unpromised("")?.saturating_sub(MARGIN))
    }

    /// # Errors
    /// `NotEnoughSpace`, with what is left for everything else in both numbers; what the disk refuses.
    pub(super) fn require(&self, needed: u64, apart_from: &str) -> Result<()> {
        let free = self.unpromised(apart_from)?;
        if needed > free.saturating_sub(MARGIN) {
            let needed = needed.saturating_add(MARGIN);
            return Err(Error::NotEnoughSpace { needed, free });
        }
        Ok(())
    }

    /// Keep room for what `remaining` says is still to be written, now and later.
    ///
    /// # Errors
    /// `NotEnoughSpace`: there is no room for all of it; nothing was promised.
    pub(super) fn promise(
        &self,
        owner: &str,
        remaining: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<()> {
        self.require(remaining(), owner)?;
        self.keep(owner, remaining);
        Ok(())
    }

    /// As `promise` for one who has looked at the disk just now; does not touch it.
    pub(super) fn keep(&self, owner: &str, remaining: impl Fn() -> u64 + Send + Sync + 'static) {
        locked(&self.promised).insert(owner.to_owned(), Box::new(remaining));
    }

    pub(super) fn release(&self, owner: &str) {
        locked(&self.promised).remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_was_promised_is_not_promised_to_another() {
        let space = Space::new(std::env::temp_dir());
        let there = space.unpromised("").unwrap();
        space.keep("a", move || there);
        let refused = space.promise("b", || 1 << 40);
        assert!(
            matches!(refused, Err(Error::NotEnoughSpace { needed, free }) if needed == (1 << 40) + MARGIN && free < needed)
        );
        assert!(space.unpromised("a").unwrap() > 0 || there == 0);
        space.release("a");
        space.promise("b", || 0).unwrap();
    }
}
