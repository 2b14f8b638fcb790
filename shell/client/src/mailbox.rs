//! Handing what happened to those who listen, be they tasks or threads.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Instant,
};

/// What a listener may leave unread before the newest is dropped and counted instead.
pub(crate) const UNREAD_MAX: usize = 4096;

/// One listener's unread items.
pub(crate) struct Mailbox<T> {
    inner: Mutex<Inner<T>>,
    ready: Condvar,
}

struct Inner<T> {
    queue: VecDeque<T>,
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

/// What a listener finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mail<T> {
    Item(T),
    /// So many items were dropped at this point.
    Missed(u64),
    /// Nothing more will come.
    Closed,
}

impl<T> Inner<T> {
    fn take(&mut self) -> Option<Mail<T>> {
        if let Some(item) = self.queue.pop_front() {
            return Some(Mail::Item(item));
        }
        match std::mem::take(&mut self.missed) {
            0 => self.closed.then_some(Mail::Closed),
            missed => Some(Mail::Missed(missed)),
        }
    }
}

impl<T> Mailbox<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, item: Option<T>) {
        let mut inner = self.lock();
        match item {
            None => inner.closed = true,
            Some(_) if inner.queue.len() >= UNREAD_MAX || inner.missed > 0 => inner.missed += 1,
            Some(item) => inner.queue.push_back(item),
        }
        let waker = inner.waker.take();
        drop(inner);
        self.ready.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Mail<T>> {
        let mut inner = self.lock();
        match inner.take() {
            Some(mail) => Poll::Ready(mail),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next item, or none by the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<Mail<T>> {
        let mut inner = self.lock();
        loop {
            if let Some(mail) = inner.take() {
                return Some(mail);
            }
            inner = match deadline {
                None => self
                    .ready
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let waited = self.ready.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("unread", &self.lock().queue.len())
            .finish_non_exhaustive()
    }
}

/// All listeners to one kind of item.
#[derive(Debug)]
pub(crate) struct Hub<T>(Mutex<Vec<Weak<Mailbox<T>>>>);

impl<T: Clone> Hub<T> {
    pub(crate) fn new() -> Hub<T> {
        Hub(Mutex::new(Vec::new()))
    }

    /// A new listener, who hears what is published from now on.
    pub(crate) fn listen(&self) -> Arc<Mailbox<T>> {
        let mailbox = Arc::new(Mailbox {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                missed: 0,
                closed: false,
                waker: None,
            }),
            ready: Condvar::new(),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|listener| listener.strong_count() > 0);
        all.push(Arc::downgrade(&mailbox));
        mailbox
    }

    fn each(&self, item: Option<&T>) {
        let all: Vec<_> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in all {
            listener.put(item.cloned());
        }
    }

    pub(crate) fn publish(&self, item: &T) {
        self.each(Some(item));
    }

    /// Tells the present listeners that nothing more will come.
    pub(crate) fn close(&self) {
        self.each(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a slow listener's process from growing without bound, and the listener from not
    /// noticing: what is dropped is counted, at its place.
    #[test]
    fn unread_items_are_bounded_and_the_rest_counted() {
        let hub = Hub::new();
        let mailbox = hub.listen();
        for i in 0..UNREAD_MAX + 10 {
            hub.publish(&i);
        }
        hub.close();
        for i in 0..UNREAD_MAX {
            assert_eq!(mailbox.wait(None), Some(Mail::Item(i)));
        }
        assert_eq!(mailbox.wait(None), Some(Mail::Missed(10)));
        assert_eq!(mailbox.wait(None), Some(Mail::Closed));
    }
}
