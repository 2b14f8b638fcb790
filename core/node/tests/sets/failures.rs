//! Sets that are cut short: whatever ends one, in whatever moment, none of it is left.

use super::*;

/// Protects from locks without an owner, and from marks without a cause: a client that goes while its
/// set is gathered leaves nothing, and cannot have written.
#[test]
fn a_client_that_goes_leaves_nothing_of_its_set() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        take(&mut w, N3, 5, space, "b", LockMode::Pr);
        let mut members = all_ex(&["a", "b", "c"]);
        for member in &mut members {
            member.flags = Flags::VALBLK;
        }
        ask_set(&mut w, node, space, members, Flags::NONE, Some(100));
        w.run(SHORT);
        let session = SessionId(session(node));
        w.input(node, Input::SessionClosed { session });
        w.run(Duration::from_secs(1));
        release(&mut w, N3, 5);
        for name in ["a", "b", "c"] {
            let ask = World::lock_ask(8, space, name, LockMode::Ex, Flags::VALBLK);
            let request = w.ask(N3, 3, ask);
            let value = w.granted(N3, request).value.expect("asked for");
            assert!(!value.maybe_stale, "{name}: nobody has written");
            release(&mut w, N3, 8);
        }
    }
}

/// Protects L2 and recovery: a set whose master dies gives back what comes behind, and is granted
/// when the lost resource has a master again.
#[test]
fn a_set_outlives_a_master() {
    let (mut w, space) = cluster();
    take(&mut w, N3, 40, space, "z", LockMode::Nl);
    let holder = take(&mut w, N3, 5, space, "b", LockMode::Pr);
    assert!(holder.token > Token::NONE);
    let asked = set(&mut w, N2, space, &["a", "b"]);
    w.run(SHORT);
    assert!(w.result(N2, asked).is_none());
    w.kill(N1);
    w.run(SHORT);
    // `a` is lost for now; `z` comes behind and is free.
    let other = vec![member(11, "a", LockMode::Cr), member(12, "z", LockMode::Ex)];
    let more = ask_set(&mut w, N2, space, other, Flags::NONE, None);
    w.run(Duration::from_millis(400));
    let ask = World::lock_ask(41, space, "z", LockMode::Ex, Flags::NOQUEUE);
    let z = w.ask(N3, 3, ask);
    w.granted(N3, z);
    release(&mut w, N3, 41);
    release(&mut w, N3, 5);
    assert_eq!(set_granted(&mut w, N2, asked).len(), 2);
    release(&mut w, N2, 1);
    assert_eq!(set_granted(&mut w, N2, more).len(), 2);
}

/// What may happen to a set while it is gathered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    /// Its client cancels it, by the handle of one of its locks.
    Cancel(u64),
    /// Its client releases one of its locks by force.
    Force(u64),
    /// Its client's process ends.
    ClientDies,
    /// Its time is over.
    TimeOut,
    /// The node of its client dies.
    OwnerDies,
    /// A node that masters some of its locks dies.
    MasterDies,
}

/// A set of node 2's client over three masters, of which node 3's client holds one, and which is hit so
/// many milliseconds after it was asked for. Whether it was still being gathered then.
fn struck(blow: Blow, after: u64) -> bool {
    let (mut w, space) = cluster();
    // `a` to `d` are node 1's; `e` is node 2's, `f` node 3's.
    take(&mut w, N2, 60, space, "e", LockMode::Nl);
    take(&mut w, N3, 61, space, "f", LockMode::Nl);
    take(&mut w, N3, 5, space, "d", LockMode::Pr);
    let names = ["f", "e", "d", "c", "b", "a"];
    let timeout = (blow == Blow::TimeOut).then_some(u32::try_from(after).expect("few"));
    let asked = ask_set(&mut w, N2, space, all_ex(&names), Flags::NONE, timeout);
    w.run(Duration::from_millis(after));
    let open = blow == Blow::TimeOut || w.result(N2, asked).is_none();
    match blow {
        Blow::Cancel(handle) => {
            let handle = Handle(handle);
            let cancel = w.ask(N2, 2, Ask::Cancel { handle });
            assert_eq!(w.wait(N2, cancel), Ok(Answer::Cancelled));
        }
        Blow::Force(handle) => {
            let gone = unlock(&mut w, N2, handle, Flags::FORCEUNLOCK);
            assert_eq!(gone, Ok(Answer::Unlocked { version: None }));
        }
        Blow::ClientDies => {
            let session = SessionId(2);
            w.input(N2, Input::SessionClosed { session });
        }
        Blow::TimeOut => {}
        Blow::OwnerDies => w.kill(N2),
        Blow::MasterDies => w.kill(N1),
    }
    w.run(SHORT);
    let refusal = match blow {
        Blow::Cancel(_) => Some(Refusal::Cancelled),
        Blow::Force(_) => Some(Refusal::Released),
        Blow::TimeOut => Some(Refusal::TimedOut),
        Blow::ClientDies | Blow::OwnerDies => None,
        Blow::MasterDies => {
            // It goes on with what is restated, and waits for `d` as before.
            w.run(Duration::from_secs(3));
            assert_eq!(w.result(N2, asked), None);
            let cancel = w.ask(N2, 2, Ask::Cancel { handle: Handle(1) });
            assert_eq!(w.wait(N2, cancel), Ok(Answer::Cancelled));
            w.run(SHORT);
            Some(Refusal::Cancelled)
        }
    };
    if let Some(why) = refusal {
        assert_eq!(refused(w.wait(N2, asked)).2, why);
    } else if blow == Blow::OwnerDies {
        // Until there is proof of its death, what it had stays locked.
        w.run(Duration::from_secs(15));
    }
    release(&mut w, N3, 5);
    for name in names {
        assert!(
            is_free(&mut w, space, name),
            "{blow:?} after {after} ms: {name}"
        );
    }
    open
}

/// Protects all or nothing against every failure in every moment: before the first answer, with some of
/// the locks granted and others asked for, and while the set waits.
#[test]
fn nothing_is_left_whenever_it_ends() {
    let blows = [
        Blow::Cancel(1),
        Blow::Cancel(6),
        Blow::Force(3),
        Blow::ClientDies,
        Blow::TimeOut,
        Blow::OwnerDies,
        Blow::MasterDies,
    ];
    for blow in blows {
        for after in 0..8 {
            assert!(
                struck(blow, after),
                "{blow:?} after {after} ms came too late"
            );
        }
    }
}
