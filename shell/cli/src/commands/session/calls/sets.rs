//! Calls for several locks.

use super::{Asked, Calls, Ended, Result_, call_of};
use crate::{
    commands::{
        locks::resource_name,
        session::{grammar::How, show::Shown},
    },
    exit::Failure,
};
use mainstay_base::{Flags, LockMode, ValueVersion};
use mainstay_client::{Granted, LockError, Refusal, SetCall};
use std::future::Future;

/// What came of a call for several locks.
pub(super) enum Many {
    Set(Result<Vec<Granted>, LockError>),
    Converted(Result<Vec<Result<Granted, Refusal>>, LockError>),
    Unlocked(Result<Vec<Result<Option<ValueVersion>, Refusal>>, LockError>),
}

impl Calls {
    pub(super) fn set(&mut self, members: &[(String, LockMode)], how: How) -> Result<(), String> {
        let whole = Flags::NOQUEUE | Flags::NOQUEUEBAST;
        let each = How {
            flags: how.flags.without(whole),
            timeout: None,
            ..how
        };
        let mut named = Vec::new();
        for (at, (label, mode)) in members.iter().enumerate() {
            if members[..at].iter().any(|(other, _)| other == label) {
                return Err(format!("the set names {label} twice"));
            }
            self.is_new(label, *mode)?;
            let resource = resource_name(label).map_err(|failure| failure.message)?;
            named.push((resource, *mode));
        }
        let labels: Vec<String> = members.iter().map(|(label, _)| label.clone()).collect();
        let calls = labels.iter().zip(named).map(|(label, (resource, mode))| {
            let handle = self.add(label.clone(), resource.clone());
            (handle, call_of(resource, mode, each))
        });
        let call = SetCall {
            members: calls.collect(),
            flags: how.flags.without(each.flags),
            timeout: how.timeout,
        };
        let call = self.raw.raw_lock_set(self.space.id(), call);
        let modes: Vec<LockMode> = members.iter().map(|(_, mode)| *mode).collect();
        self.begin_many(labels, Asked::Set, &modes, async { Many::Set(call.await) });
        Ok(())
    }

    pub(super) fn convert_many(
        &mut self,
        labels: Vec<String>,
        mode: LockMode,
        how: How,
    ) -> Result<(), String> {
        let mut calls = Vec::new();
        for label in &labels {
            let lock = self.find(label)?;
            calls.push((lock.handle, call_of(lock.resource.clone(), mode, how)));
        }
        let call = self.raw.raw_convert_many(calls, how.timeout);
        let modes = vec![mode; labels.len()];
        self.begin_many(labels, Asked::Convert, &modes, async {
            Many::Converted(call.await)
        });
        Ok(())
    }

    pub(super) fn unlock_many(&mut self, labels: Vec<String>, flags: Flags) -> Result<(), String> {
        let mut handles = Vec::new();
        for label in &labels {
            handles.push(self.find(label)?.handle);
        }
        let call = self.raw.raw_unlock_many(&handles, flags);
        self.begin_many(labels, Asked::Unlock, &[], async {
            Many::Unlocked(call.await)
        });
        Ok(())
    }

    fn begin_many(
        &mut self,
        labels: Vec<String>,
        asked: Asked,
        modes: &[LockMode],
        call: impl Future<Output = Many> + 'static,
    ) {
        for (at, label) in labels.iter().enumerate() {
            if let Some(lock) = self.locks.get_mut(label)
                && lock.asked.is_none()
            {
                lock.asked = Some((asked, modes.get(at).copied()));
            }
        }
        self.raw.flush();
        self.under_way.push(Box::pin(async move {
            let many = call.await;
            Ended {
                label: String::new(),
                asked,
                result: Result_::Many(labels, many),
            }
        }));
    }

    /// Takes in what came of a call for several locks: a word for each, or one for all.
    pub(super) fn settle_many(
        &mut self,
        asked: Asked,
        labels: Vec<String>,
        many: Many,
    ) -> Result<Vec<Shown<'static>>, Failure> {
        let each = |labels: &[String], results: Vec<Result_>| -> Vec<Ended> {
            let ended = labels.iter().zip(results);
            let ended = ended.map(|(label, result)| Ended {
                label: label.clone(),
                asked,
                result,
            });
            ended.collect()
        };
        let refused = |why: Refusal| LockError::from(why);
        let ended = match many {
            Many::Set(Ok(granted)) => {
                let granted = granted
                    .into_iter()
                    .zip(&labels)
                    .map(|(mut granted, label)| {
                        let lock = self.locks.get(label);
                        let wanted = lock.and_then(|lock| lock.asked).and_then(|(_, mode)| mode);
                        granted.altmode = wanted.is_some_and(|mode| mode != granted.mode);
                        Result_::Granted(Ok(granted))
                    });
                let granted = granted.collect();
                each(&labels, granted)
            }
            Many::Converted(Ok(results)) => {
                let results = results.into_iter();
                let results = results.map(|r| Result_::Granted(r.map_err(refused)));
                each(&labels, results.collect())
            }
            Many::Unlocked(Ok(results)) => {
                let results = results.into_iter();
                let results = results.map(|r| Result_::Unlocked(r.map_err(refused)));
                each(&labels, results.collect())
            }
            Many::Set(Err(error)) | Many::Converted(Err(error)) | Many::Unlocked(Err(error)) => {
                return self.refused_many(asked, &labels, error);
            }
        };
        ended.into_iter().map(|one| self.settle_one(one)).collect()
    }

    /// All of it was refused.
    fn refused_many(
        &mut self,
        asked: Asked,
        labels: &[String],
        error: LockError,
    ) -> Result<Vec<Shown<'static>>, Failure> {
        let Some(refusal) = error.refusal() else {
            return Err(error.into());
        };
        for label in labels {
            match asked {
                Asked::Set => drop(self.locks.remove(label)),
                _ => self.idle(label),
            }
        }
        Ok(vec![Shown::Refused {
            lock: labels.join(","),
            call: asked.name(),
            code: refusal.code(),
            reason: refusal.to_string(),
            deadlock: error.deadlock().cloned().map(Box::new),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{lock::Where, session::grammar::parse};
    use mainstay_client::{asynchronous::Client, testing::FakeDaemon};

    /// What a line leads to: event and lock of each thing that is told.
    async fn told(calls: &mut Calls, line: &str) -> Vec<(String, String)> {
        let command = parse(line).expect("right").expect("a command");
        calls.make(command).expect("it can be made");
        let ended = calls.next().await.expect("one is under way");
        let shown = calls.settle(ended).expect("the session goes on");
        let told = shown.iter().map(|shown| {
            let json = serde_json::to_value(shown).expect("names and numbers");
            let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
            (word("event"), word("lock"))
        });
        told.collect()
    }

    /// Protects scripts: calls for several locks tell of each, a refused set of all of them at once and
    /// leaves none, and what is done with a lock of a set is done as with any other.
    #[tokio::test]
    async fn several_locks_are_told_one_by_one() {
        let daemon = FakeDaemon::start();
        let client = Client::connect(daemon.path()).await.expect("connected");
        let place = Where {
            lockspace: "default".to_owned(),
            value_len: None,
        };
        let mut calls = Calls::new(&client, &place).await.expect("opened");
        let event = |event: &str, lock: &str| (event.to_owned(), lock.to_owned());
        let both = |what| vec![event(what, "A"), event(what, "B")];
        assert_eq!(told(&mut calls, "set A pr,B").await, both("granted"));
        let again = parse("set C,A").expect("right").expect("a command");
        let why = calls.make(again).expect_err("there is an A");
        assert!(why.contains("there is a lock A already"), "{why}");
        let space = client.lockspace("default").open().await.expect("opened");
        let held = space.lock("X").acquire().await.expect("free");
        let refused = told(&mut calls, "set C,X noqueue").await;
        assert_eq!(refused, [event("refused", "C,X")]);
        assert_eq!(calls.list().len(), 2, "nothing of it is left");
        assert_eq!(told(&mut calls, "convert A,B nl").await, both("granted"));
        assert_eq!(told(&mut calls, "unlock A, B").await, both("unlocked"));
        assert!(calls.list().is_empty());
        held.unlock().await.expect("held");
        assert_eq!(daemon.locks(), 0);
    }
}
