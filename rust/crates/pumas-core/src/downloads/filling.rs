//! Read so many bytes of an answer: at the pace that is allowed, told as they come, and not from one that trickles.
//!
//! What the bytes are, and what becomes of them, is known to `large` and `fetching`.

use std::time::{Duration, Instant};

use super::content::Reply;
use super::shared::{Shared, is_passing};
use crate::error::Result;

/// Bytes per second. A connection that brings less than this for so long is given up for a new one.
const SLOWEST: f64 = 256.0;
const SLOWEST_FOR: Duration = Duration::from_secs(20);

/// Fill `buffer`; on a failure what had come is lost. The bytes count as pending for `path`.
///
/// # Errors
/// `InvalidReply`: the answer ends too early or trickles. `ConnectionFailed`: it broke off, or was closed here; and as
/// [`Shared::stop`].
pub(super) fn fill(shared: &Shared, reply: &mut Reply, path: &str, buffer: &mut [u8]) -> Result<()> {
    fill_or_rescue(shared, reply, path, buffer, |_| false)
}

/// As [`fill`], but on a failure of the network what had come is offered to `rescue`, and goes on counting when that
/// takes it.
pub(super) fn fill_or_rescue(
    shared: &Shared,
    reply: &mut Reply,
    path: &str,
    buffer: &mut [u8],
    rescue: impl FnOnce(&[u8]) -> bool,
) -> Result<()> {
    let mut filled = 0;
    let done = fill_on(shared, reply, path, buffer, &mut filled);
    if let Err(error) = &done
        && !(filled > 0 && is_passing(error) && rescue(&buffer[..filled]))
    {
        shared.meter.dropped(path, filled);
    }
    done
}

fn fill_on(
    shared: &Shared,
    reply: &mut Reply,
    path: &str,
    buffer: &mut [u8],
    filled: &mut usize,
) -> Result<()> {
    let mut reading = Duration::ZERO;
    while *filled < buffer.len() {
        let began = Instant::now();
        let end = buffer.len().min(*filled + shared.bandwidth.bite());
        let count = reply.read_into(&mut buffer[*filled..end])?;
        if count == 0 {
            return Err(reply.invalid(format!("{path} ends too early")));
        }
        *filled += count;
        // Without the waits for our own limit, which are not the server's.
        reading += began.elapsed();
        if shared.meter.received(path, count) {
            shared.patience.progressed();
        }
        shared.bandwidth.take(count, &|| shared.stop())?;
        if reading > SLOWEST_FOR && (*filled as f64) < SLOWEST * reading.as_secs_f64() {
            let reason = format!("{path} comes with less than {SLOWEST:.0} bytes per second");
            return Err(reply.invalid(reason));
        }
    }
    Ok(())
}
