//! Many requests under way on one connection.

use super::{
    connect, place,
    placement::Placement,
    sample::{Bound, Row, Samples},
};
use crate::exit::Failure;
use mainstay_client::{
    Flags, Granted, Handle, LockCall, LockMode, ResourceName, ValueVersion,
    blocking::{Call, RawSession},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// A lock in turns: requested, then released, then requested again.
struct Lane {
    handle: Handle,
    call: LockCall,
    held: bool,
}

enum Pending {
    Lock(Call<Granted>),
    Unlock(Call<Option<ValueVersion>>),
}

/// Keeps `depth` requests under way: two halves take turns, so that one is being worked on while
/// the other is looked at. A sample is one request; its time is that from the sending of its half to
/// the last answer of it.
pub(super) fn measure(
    near: &Path,
    far: Option<&Path>,
    depth: usize,
    time: Duration,
) -> Result<Row, Failure> {
    let name = |lane| format!("pipe-{}-{depth}-{lane}", place(far.is_some()));
    let (client, space) = connect(near)?;
    let keeper = match far {
        Some(far) => connect(far)?.1,
        None => connect(near)?.1,
    };
    let mut keepers = Vec::new();
    let raw = client.raw();
    let mut lanes = Vec::new();
    for lane in 0..depth {
        keepers.push(keeper.lock(name(lane)).mode(LockMode::Nl).acquire()?);
        let resource =
            ResourceName::new(name(lane)).map_err(|error| Failure::usage(error.to_string()))?;
        lanes.push(Lane {
            handle: raw.new_handle(),
            call: LockCall::new(resource, LockMode::Ex),
            held: false,
        });
    }
    let id = space.id();
    let mut rest = lanes.split_off(depth / 2);
    let halves = [&mut lanes, &mut rest];
    let mut samples = Samples::default();
    let began = Instant::now();
    let mut under_way = send(&raw, id, halves[0]);
    let mut turn = 1;
    loop {
        let next = send(&raw, id, halves[turn]);
        let (sent, calls) = std::mem::replace(&mut under_way, next);
        let count = calls.len();
        for call in calls {
            match call {
                Pending::Lock(call) => drop(call.wait()?),
                Pending::Unlock(call) => drop(call.wait()?),
            }
        }
        let now = Instant::now();
        for _ in 0..count {
            samples.add(now - sent);
        }
        if now - began >= time {
            break;
        }
        turn = 1 - turn;
    }
    let elapsed = began.elapsed();
    for call in under_way.1 {
        match call {
            Pending::Lock(call) => drop(call.wait()?),
            Pending::Unlock(call) => drop(call.wait()?),
        }
    }
    Ok(Row {
        name: format!(
            "requests, {depth} in flight on one connection, {} master",
            place(far.is_some())
        ),
        placement: Placement::Free,
        summary: samples.summary(elapsed),
        bound: Bound::None,
        target: None,
    })
}

fn send(
    raw: &RawSession,
    id: mainstay_client::LockspaceId,
    lanes: &mut [Lane],
) -> (Instant, Vec<Pending>) {
    let sent = Instant::now();
    let calls = lanes.iter_mut().map(|lane| {
        lane.held = !lane.held;
        if lane.held {
            lane.handle = raw.new_handle();
            Pending::Lock(raw.raw_lock(lane.handle, id, lane.call.clone()))
        } else {
            Pending::Unlock(raw.raw_unlock(lane.handle, Flags::NONE, None))
        }
    });
    let calls = calls.collect();
    raw.flush();
    (sent, calls)
}
