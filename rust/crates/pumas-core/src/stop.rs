//! The wish that the program ends: asked for once, seen by everybody who waits for it.

use tokio::sync::watch;

/// Cheap to clone; all clones are one wish.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            asked: watch::Sender::new(false),
        }
    }
}

impl Stop {
    /// Ask for the end.
    pub fn ask(&self) {
        self.asked.send_replace(true);
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Return when somebody has asked, at once when that was before.
    pub async fn asked(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }
}
