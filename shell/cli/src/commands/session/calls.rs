//! The locks of the session, and the calls that are under way.

mod sets;
mod tree;

use super::{
    grammar::{Command, How, above},
    show::{ListedLock, Shown, ShownValue},
};
use crate::{
    commands::{
        lock::{Where, open},
        locks::resource_name,
        orphans,
    },
    exit::Failure,
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use mainstay_base::{
    ByteRange, Flags, LockMode, LockspaceId, ResourceName, Token, Updated, ValueBlock, ValueUpdate,
    ValueVersion,
};
use mainstay_client::{
    Granted, LockCall, LockError, OrphanWish, OrphansReport, PurgeReport, RangeSet,
    asynchronous::{Client, Lockspace, RawSession},
};
use mainstay_wire::client::Handle;
use std::{collections::BTreeMap, pin::Pin};

/// Most orphans that are listed.
const ORPHANS_SHOWN: u64 = 1000;

/// What a call asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Lock,
    Set,
    Convert,
    Range,
    Value,
    Unlock,
    Cancel,
    Promise,
    Swap,
    Add,
    Watch,
    Adopt,
    AdoptAnywhere,
    Dequeue,
}

impl Asked {
    pub(super) fn name(self) -> &'static str {
        match self {
            Asked::Lock => "lock",
            Asked::Set => "set",
            Asked::Convert => "convert",
            Asked::Range => "range",
            Asked::Value => "value",
            Asked::Unlock => "unlock",
            Asked::Cancel => "cancel",
            Asked::Promise => "promise",
            Asked::Swap => "cas",
            Asked::Add => "add",
            Asked::Watch => "watch",
            Asked::Adopt | Asked::AdoptAnywhere => "adopt",
            Asked::Dequeue => "dequeue",
        }
    }
}

/// What came of a call.
enum Result_ {
    Granted(Result<Granted, LockError>),
    Ranged(ByteRange, LockMode, Result<RangeSet, LockError>),
    Unlocked(Result<Option<ValueVersion>, LockError>),
    Cancelled(Result<(), LockError>),
    Promised(Result<(), LockError>),
    Updated(Result<Updated, LockError>),
    Watching(Result<bool, LockError>),
    Many(Vec<String>, sets::Many),
    Tree(Vec<(String, Handle)>, Result<u64, LockError>),
}

/// A call that has ended.
pub(super) struct Ended {
    label: String,
    asked: Asked,
    result: Result_,
}

struct Lock {
    handle: Handle,
    /// The lock that it is beneath.
    parent: Option<Handle>,
    resource: ResourceName,
    granted: Option<(LockMode, Token)>,
    /// Its lockspace, and the bytes of a value block there.
    space: LockspaceId,
    value_len: usize,
    /// It is a lock on ranges: whether it holds any.
    ranges: Option<bool>,
    /// The call under way, apart from cancels.
    asked: Option<(Asked, Option<LockMode>)>,
}

pub(super) struct Calls {
    raw: RawSession,
    space: Lockspace,
    locks: BTreeMap<String, Lock>,
    /// Polled where notices are, so that a grant is told before a notice that came behind it.
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Ended>>>>,
}

impl Calls {
    pub(super) async fn new(client: &Client, place: &Where) -> Result<Calls, Failure> {
        Ok(Calls {
            raw: client.raw(),
            space: open(client, place).await?,
            locks: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
        })
    }

    pub(super) async fn choose_space(
        &mut self,
        client: &Client,
        place: &Where,
    ) -> Result<(), String> {
        let opened = open(client, place).await;
        self.space = opened.map_err(|failure| failure.message)?;
        Ok(())
    }

    pub(super) async fn why(&self, client: &Client, name: &str) -> Result<Vec<String>, String> {
        let name = resource_name(name).map_err(|failure| failure.message)?;
        let report = client.why(self.space.name().clone(), name).await;
        report
            .map(|report| report.sentences)
            .map_err(|error| error.to_string())
    }

    pub(super) async fn orphans(
        &self,
        client: &Client,
        pattern: Option<String>,
    ) -> Result<OrphansReport, String> {
        let wish = OrphanWish {
            pattern,
            ..OrphanWish::default()
        };
        let report = orphans::gather(client, wish, ORPHANS_SHOWN).await;
        report.map_err(|error| error.to_string())
    }

    /// Releases orphans of the chosen lockspace.
    pub(super) async fn purge(
        &self,
        client: &Client,
        pattern: String,
    ) -> Result<PurgeReport, String> {
        let wish = OrphanWish {
            lockspace: Some(self.space.name().clone()),
            pattern: Some(pattern),
            ..OrphanWish::default()
        };
        let report = client.purge_orphans(wish).await;
        report.map_err(|error| error.to_string())
    }

    /// The next call that ends; nothing, if none is under way.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        self.under_way.next().await
    }

    /// Whether calls are under way: any, or on that lock.
    pub(super) fn under_way(&self, label: Option<&str>) -> bool {
        match label {
            None => !self.under_way.is_empty(),
            Some(label) => self
                .locks
                .get(label)
                .is_some_and(|lock| lock.asked.is_some()),
        }
    }

    pub(super) fn labels_under_way(&self, label: Option<&str>) -> Vec<String> {
        let asked = self.locks.iter().filter(|(name, lock)| {
            lock.asked.is_some() && label.is_none_or(|label| label == *name)
        });
        asked.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn label_of(&self, handle: Handle) -> Option<String> {
        let mut locks = self.locks.iter();
        let found = locks.find(|(_, lock)| lock.handle == handle)?;
        Some(found.0.clone())
    }

    /// A lock that was in the way for too long; it may be gone.
    pub(super) fn overdue(&mut self, handle: Handle, released: bool) -> Option<String> {
        let label = self.label_of(handle)?;
        if released {
            self.locks.remove(&label);
        }
        Some(label)
    }

    /// A lock that waits to be converted holds no more than NL.
    pub(super) fn demoted(&mut self, handle: Handle) -> Option<String> {
        let mut locks = self.locks.iter_mut();
        let (label, lock) = locks.find(|(_, lock)| lock.handle == handle)?;
        if let Some((mode, _)) = &mut lock.granted {
            *mode = LockMode::Nl;
        }
        Some(label.clone())
    }

    pub(super) fn list(&self) -> Vec<ListedLock> {
        let locks = self.locks.iter().map(|(label, lock)| ListedLock {
            lock: label.clone(),
            resource: lock.resource.to_string(),
            mode: (lock.granted.map(|(mode, _)| mode)).filter(|_| lock.ranges.is_none()),
            ranges: lock.ranges.is_some(),
            token: lock.granted.map(|(_, token)| token),
            asked: lock.asked.map(|(asked, _)| asked.name()),
            asked_mode: lock.asked.and_then(|(_, mode)| mode),
        });
        locks.collect()
    }

    /// Makes the call that a command asks for.
    ///
    /// # Errors
    /// What is wrong with it, if it cannot be made.
    pub(super) fn make(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Lock {
                label,
                resource,
                mode,
                how,
            } => match above(&resource) {
                Some((parent, own)) => self.lock_under(label, parent, own, mode, how),
                None => self.lock(label, &resource, mode, how, Asked::Lock),
            },
            Command::UnlockTree { label, itself } => self.unlock_tree(label, itself),
            Command::Adopt {
                label,
                resource,
                mode,
                how,
                anywhere,
            } => {
                let asked = match anywhere {
                    true => Asked::AdoptAnywhere,
                    false => Asked::Adopt,
                };
                self.lock(label, &resource, mode, how, asked)
            }
            Command::Convert {
                label,
                mode,
                how,
                value,
            } => self.convert(&label, Asked::Convert, mode, how, value),
            Command::Value { label, value } => {
                let lock = self.find(&label)?;
                let Some((mode, _)) = lock.granted else {
                    return Err(format!("{label} is not granted yet"));
                };
                let how = How {
                    flags: Flags::VALBLK,
                    timeout: None,
                    blocking: true,
                };
                self.convert(&label, Asked::Value, mode, how, value)
            }
            Command::Range {
                label,
                resource,
                range,
                mode,
                how,
            } => self.range(label, &resource, range, mode, how),
            Command::Set { members, how } => self.set(&members, how),
            Command::ConvertMany { labels, mode, how } => self.convert_many(labels, mode, how),
            Command::UnlockMany { labels, flags } => self.unlock_many(labels, flags),
            Command::Unlock {
                label,
                flags,
                value,
            } => {
                let lock = self.find(&label)?;
                let (handle, value) = (lock.handle, value_of(lock, value)?);
                let call = self.raw.raw_unlock(handle, flags, value);
                self.begin(label, Asked::Unlock, None, async {
                    Result_::Unlocked(call.await)
                });
                Ok(())
            }
            Command::Cancel { label } => {
                let handle = self.find(&label)?.handle;
                let call = self.raw.cancel(handle);
                self.begin(label, Asked::Cancel, None, async {
                    Result_::Cancelled(call.await)
                });
                Ok(())
            }
            Command::Promise {
                label,
                within,
                release,
            } => {
                let handle = self.find(&label)?.handle;
                let call = self.raw.raw_set_response_time(handle, within, release);
                self.begin(label, Asked::Promise, None, async {
                    Result_::Promised(call.await)
                });
                Ok(())
            }
            Command::Swap {
                label,
                expect,
                stale,
                value,
            } => {
                let lock = self.find(&label)?;
                let block = value_of(lock, Some(value))?.unwrap_or_default();
                let update = ValueUpdate::Swap {
                    expect: ValueVersion(expect),
                    expect_stale: stale,
                    block,
                };
                self.update(label, Asked::Swap, update)
            }
            Command::Add { label, delta } => {
                self.update(label, Asked::Add, ValueUpdate::Add { delta })
            }
            Command::Watch { label, on } => {
                let handle = self.find(&label)?.handle;
                let call = self.raw.raw_watch_value(handle, on);
                self.begin(label, Asked::Watch, None, async move {
                    Result_::Watching(call.await.map(|()| on))
                });
                Ok(())
            }
            other => unreachable!("{other:?} is no call on a lock"),
        }
    }

    fn update(&mut self, label: String, asked: Asked, update: ValueUpdate) -> Result<(), String> {
        let handle = self.find(&label)?.handle;
        let call = self.raw.raw_update_value(handle, update);
        self.begin(label, asked, None, async { Result_::Updated(call.await) });
        Ok(())
    }

    fn find(&self, label: &str) -> Result<&Lock, String> {
        let unknown = || match self.locks.len() {
            0 => format!("there is no lock {label}; `lock {label}` asks for one"),
            _ => format!("there is no lock {label}; `locks` lists those there are"),
        };
        self.locks.get(label).ok_or_else(unknown)
    }

    fn lock(
        &mut self,
        label: String,
        resource: &str,
        mode: LockMode,
        how: How,
        asked: Asked,
    ) -> Result<(), String> {
        self.is_new(&label, mode)?;
        let resource = resource_name(resource).map_err(|failure| failure.message)?;
        let handle = self.add(label.clone(), resource.clone());
        let call = call_of(resource, mode, how);
        let call = match asked {
            Asked::Adopt => self.raw.raw_adopt(handle, self.space.id(), call),
            Asked::AdoptAnywhere => (self.raw).raw_adopt_anywhere(handle, self.space.id(), call),
            _ => self.raw.raw_lock(handle, self.space.id(), call),
        };
        self.begin(label, asked, Some(mode), async {
            Result_::Granted(call.await)
        });
        Ok(())
    }

    fn is_new(&self, label: &str, mode: LockMode) -> Result<(), String> {
        match self.locks.contains_key(label) {
            false => Ok(()),
            true => Err(format!(
                "there is a lock {label} already; `convert {label} {mode}` changes its mode, and \
                 `lock {label} as=NAME` gives a second one a name of its own"
            )),
        }
    }

    /// Adds a lock that is about to be asked for.
    fn add(&mut self, label: String, resource: ResourceName) -> Handle {
        let handle = self.raw.new_handle();
        let lock = Lock {
            handle,
            parent: None,
            resource,
            granted: None,
            space: self.space.id(),
            value_len: usize::from(self.space.value_len()),
            ranges: None,
            asked: None,
        };
        self.locks.insert(label, lock);
        handle
    }

    fn convert(
        &mut self,
        label: &str,
        asked: Asked,
        mode: LockMode,
        mut how: How,
        value: Option<Vec<u8>>,
    ) -> Result<(), String> {
        let lock = self.find(label)?;
        let value = value_of(lock, value)?;
        if value.is_some() {
            how.flags |= Flags::VALBLK;
        }
        let call = call_of(lock.resource.clone(), mode, how);
        let call = self.raw.raw_convert(lock.handle, call, value);
        self.begin(label.to_owned(), asked, Some(mode), async {
            Result_::Granted(call.await)
        });
        Ok(())
    }

    fn range(
        &mut self,
        label: String,
        resource: &str,
        range: ByteRange,
        mode: LockMode,
        how: How,
    ) -> Result<(), String> {
        let resource = resource_name(resource).map_err(|failure| failure.message)?;
        let space = self.space.id();
        let value_len = usize::from(self.space.value_len());
        let raw = &self.raw;
        let lock = self.locks.entry(label.clone()).or_insert_with(|| Lock {
            handle: raw.new_handle(),
            parent: None,
            resource: resource.clone(),
            granted: None,
            space,
            value_len,
            ranges: Some(false),
            asked: None,
        });
        if lock.ranges.is_none() || lock.resource != resource {
            return Err(format!(
                "there is a lock {label} already, which is not on ranges of {resource}; `as=NAME` \
                 gives a second one a name of its own"
            ));
        }
        let (handle, space) = (lock.handle, lock.space);
        let call = call_of(resource, mode, how);
        let call = self.raw.raw_range(handle, space, range, call);
        self.begin(label, Asked::Range, Some(mode), async move {
            Result_::Ranged(range, mode, call.await)
        });
        Ok(())
    }

    fn begin(
        &mut self,
        label: String,
        asked: Asked,
        mode: Option<LockMode>,
        call: impl Future<Output = Result_> + 'static,
    ) {
        if !matches!(asked, Asked::Cancel | Asked::Promise | Asked::Dequeue)
            && let Some(lock) = self.locks.get_mut(&label)
            && lock.asked.is_none()
        {
            lock.asked = Some((asked, mode));
        }
        self.raw.flush();
        self.under_way.push(Box::pin(async move {
            let result = call.await;
            Ended {
                label,
                asked,
                result,
            }
        }));
    }

    /// Takes in what came of a call, and tells what is to be shown of it.
    ///
    /// # Errors
    /// If the session is lost.
    pub(super) fn settle(&mut self, call: Ended) -> Result<Vec<Shown<'static>>, Failure> {
        match call.result {
            Result_::Many(labels, many) => self.settle_many(call.asked, labels, many),
            Result_::Tree(locks, Ok(released)) => Ok(vec![self.tree_gone(locks, released)]),
            _ => self.settle_one(call).map(|shown| vec![shown]),
        }
    }

    fn settle_one(&mut self, call: Ended) -> Result<Shown<'static>, Failure> {
        let Ended {
            label,
            asked,
            result,
        } = call;
        let error = match result {
            Result_::Granted(Ok(granted)) => {
                if let Some(lock) = self.locks.get_mut(&label) {
                    lock.granted = Some((granted.mode, granted.token));
                    lock.asked = None;
                }
                return Ok(Shown::Granted {
                    lock: label,
                    call: asked.name(),
                    mode: granted.mode,
                    token: granted.token,
                    value: granted.value.as_ref().map(ShownValue::of),
                    altmode: granted.altmode,
                    demoted: granted.demoted,
                });
            }
            Result_::Ranged(range, mode, Ok(set)) => {
                if let Some(lock) = self.locks.get_mut(&label) {
                    lock.granted = set.holds.then_some((mode, set.token));
                    lock.ranges = Some(set.holds);
                    lock.asked = None;
                }
                if !set.holds {
                    self.locks.remove(&label);
                }
                return Ok(Shown::RangeSet {
                    lock: label,
                    range,
                    mode,
                    token: set.token,
                    holds: set.holds,
                });
            }
            Result_::Unlocked(Ok(version)) => {
                self.locks.remove(&label);
                return Ok(Shown::Unlocked {
                    lock: label,
                    version,
                });
            }
            Result_::Cancelled(Ok(())) => return Ok(Shown::Cancelled { lock: label }),
            Result_::Promised(Ok(())) => return Ok(Shown::Promised { lock: label }),
            Result_::Watching(Ok(on)) => {
                self.idle(&label);
                return Ok(Shown::Watching { lock: label, on });
            }
            Result_::Updated(Ok(updated)) => {
                self.idle(&label);
                let count = (asked == Asked::Add).then(|| updated.value.count());
                return Ok(Shown::Updated {
                    lock: label,
                    call: asked.name(),
                    done: updated.done,
                    count,
                    value: ShownValue::of(&updated.value),
                });
            }
            Result_::Granted(Err(error))
            | Result_::Ranged(_, _, Err(error))
            | Result_::Unlocked(Err(error))
            | Result_::Cancelled(Err(error))
            | Result_::Promised(Err(error))
            | Result_::Updated(Err(error))
            | Result_::Watching(Err(error))
            | Result_::Tree(_, Err(error)) => error,
            Result_::Many(..) | Result_::Tree(..) => unreachable!("settled on its own"),
        };
        let Some(refusal) = error.refusal() else {
            return Err(error.into());
        };
        let busy = *refusal == mainstay_client::Refusal::Busy;
        let adopts = matches!(asked, Asked::Adopt | Asked::AdoptAnywhere);
        let busy = busy && !adopts; // Then it says so of the orphan.
        if let Some(lock) = self.locks.get_mut(&label)
            && !matches!(asked, Asked::Cancel | Asked::Promise | Asked::Dequeue)
            && !busy
        {
            lock.asked = None;
            let new = adopts || asked == Asked::Lock;
            if new || asked == Asked::Range && lock.ranges == Some(false) {
                self.locks.remove(&label);
            }
        }
        Ok(Shown::Refused {
            lock: label,
            call: asked.name(),
            code: refusal.code(),
            reason: refusal.to_string(),
            deadlock: error.deadlock().cloned().map(Box::new),
        })
    }

    /// The call on a lock has ended, and left the lock as it was.
    fn idle(&mut self, label: &str) {
        if let Some(lock) = self.locks.get_mut(label) {
            lock.asked = None;
        }
    }

    /// Releases all locks, and waits until that is done.
    pub(super) async fn release_all(&mut self) {
        self.under_way.clear();
        let call = self.raw.raw_unlock_tree(None, false);
        self.raw.flush();
        // What cannot be released goes with the session.
        let _ = call.await;
    }
}

fn call_of(resource: ResourceName, mode: LockMode, how: How) -> LockCall {
    let mut call = LockCall::new(resource, mode);
    call.flags = how.flags;
    call.timeout = how.timeout;
    call.blocking = how.blocking;
    call
}

fn value_of(lock: &Lock, value: Option<Vec<u8>>) -> Result<Option<ValueBlock>, String> {
    let block = value.map(|bytes| ValueBlock::new(&bytes)?.padded(lock.value_len));
    block
        .transpose()
        .map_err(|error: mainstay_base::ValueError| error.to_string())
}
