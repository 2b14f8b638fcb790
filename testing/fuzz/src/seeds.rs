//! Inputs to begin with, made from real messages.

use crate::{
    Script, consensus,
    world::{World, config},
};
use mainstay_base::{
    Access, BootId, ClusterId, DiskId, Epoch, Incarnation, Instant, LinkId, LockId, LockMode,
    LockspaceId, LockspaceName, NodeId, NodeName, ResourceName, SessionId, Token,
};
use mainstay_fencing::Proof;
use mainstay_membership::{
    ClusterState, Command, Founding, FoundingNode, Message, RequestOrigin,
    message::{FoundingOffer, HeartbeatAck},
};
use mainstay_recorder::{Dump, Head, MasterRecord, Op, OwnRecord, Phase, Record, Recorder};
use mainstay_transport::wire;
use mainstay_wire::event::{Event, Reason, What};
use std::{fs, path::Path};

type Seeds = Vec<(String, Vec<u8>)>;

/// The golden messages of `mainstay-wire`, by name.
fn golden(file: &str) -> Seeds {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core/wire/tests/golden");
    let text = fs::read_to_string(dir.join(file)).expect("the golden bytes are part of the tree");
    let line = |line: &str| {
        let (name, hex) = line.split_once(" = ")?;
        let digits = hex.as_bytes().chunks_exact(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        Some((
            name.to_owned(),
            digits.map(byte).collect::<Option<Vec<u8>>>()?,
        ))
    };
    text.lines().filter_map(line).collect()
}

fn one(name: &str, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.into())
}

fn founding(ids: &[NodeId]) -> Founding {
    let config = config(ids);
    let node = |spec: &mainstay_base::NodeSpec| FoundingNode {
        spec: spec.clone(),
        disk: Some(DiskId(u64::from(spec.id.0))),
    };
    Founding {
        cluster: config.cluster.clone(),
        id: ClusterId(77),
        nodes: config.nodes.iter().map(node).collect(),
        timings: config.timings,
        fencing: config.fencing,
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    let (node, incarnation) = (NodeId(9), Incarnation(1));
    let origin = RequestOrigin {
        node: NodeId(1),
        boot: BootId(1001),
        request: 3,
    };
    vec![
        ("found", Command::Found(founding(&[NodeId(1), NodeId(9)]))),
        (
            "join-1",
            Command::Join {
                node: NodeId(1),
                boot: BootId(1001),
                after: Incarnation(0),
            },
        ),
        (
            "join-9",
            Command::Join {
                node,
                boot: BootId(900),
                after: Incarnation(0),
            },
        ),
        (
            "lockspace",
            Command::CreateLockspace {
                access: Access::open_to_all(1000, 100),
                fairness: mainstay_base::Fairness::default(),
                compat: mainstay_base::Compat::Strict,
                name: LockspaceName::new("default").expect("a name"),
                value_len: 32,
                origin,
            },
        ),
        (
            "remove",
            Command::Remove {
                node,
                incarnation,
                reason: Reason::HeartbeatsMissed,
                detail: "quiet".to_owned(),
            },
        ),
        (
            "vouch",
            Command::Fenced {
                node,
                incarnation,
                proof: Proof::OperatorVouched {
                    operator: "uid 0 on n1".to_owned(),
                },
            },
        ),
        (
            "leave",
            Command::Leave {
                node: NodeId(1),
                incarnation,
            },
        ),
        (
            "disk",
            Command::ReplaceDisk {
                node,
                old: None,
                new: DiskId(99),
            },
        ),
    ]
}

fn memberships() -> Seeds {
    let mut world = World::new(1, true);
    let heartbeat = world.heartbeat().expect("the world has settled");
    let ack = HeartbeatAck {
        to_boot: heartbeat.boot,
        seq: 5,
        boot: BootId(900),
        promise: true,
        epoch: Epoch(3),
    };
    let offer = FoundingOffer {
        boot: BootId(900),
        founding: founding(&[NodeId(1), NodeId(9)]),
    };
    vec![
        one("heartbeat", Message::Heartbeat(heartbeat).encode()),
        one("ack", Message::Ack(ack).encode()),
        one("offer", Message::Offer(offer).encode()),
        one("founding", founding(&[NodeId(1), NodeId(9)]).encode()),
    ]
}

fn state() -> ClusterState {
    let mut state = ClusterState::new();
    for (index, (_, command)) in (1..).zip(commands().iter().take(5)) {
        state.apply(index, command);
    }
    state
}

fn states() -> Seeds {
    let all = commands();
    let from_nothing = all
        .iter()
        .fold(Script::new().block(&[]), |s, (_, c)| s.block(&c.encode()));
    let from_snapshot = all
        .iter()
        .skip(5)
        .fold(Script::new().block(&state().encode()), |s, (_, c)| {
            s.block(&c.encode())
        });
    vec![
        one("from-nothing", from_nothing.0),
        one("from-snapshot", from_snapshot.0),
    ]
}

fn links() -> Seeds {
    // Time and kind of each step; see `link::frames`.
    let talk = [
        0, 1, 0, 2, 0, 1, 0, 0, 3, 0, 0, 5, 0, 1, 0, 2, 9, 4, 0, 9, 2,
    ];
    let tampered = [
        0, 1, 0, 2, 0, 1, 0, 0, 3, 0, 0, 5, 0, 4, 1, 0, 28, 0, 7, 0, 4, 1, 0, 36, 0, 7, 255, 5, 0,
        1,
    ];
    let mut frame = vec![1, 1, 1, 0];
    frame.extend([0; 8]);
    for number in [22_u64, 11, 1, 1] {
        frame.extend(number.to_le_bytes());
    }
    frame.extend([2, 0, 0, 0, 7, 7]);
    let raw = Script::new()
        .raw(&[0, 3])
        .block(&frame)
        .raw(&[0, 3])
        .block(&frame);
    vec![
        one("talk", talk),
        one("tampered", tampered),
        one("raw", raw.0),
    ]
}

/// Dumps with records of every kind, with checksums that are left alone and that are set right.
fn dumps() -> Seeds {
    let name = ResourceName::new("disk").expect("valid");
    let (space, node, incarnation, lock) = (LockspaceId(1), NodeId(2), Incarnation(3), LockId(4));
    let (mode, token) = (Some(LockMode::Ex), Token(7 << 40 | 1));
    let mut recorder = Recorder::new(1 << 16, BootId(5));
    let own = |op| {
        Record::Own(OwnRecord {
            op,
            space,
            name: name.clone(),
            session: SessionId(6),
            lock,
            mode,
            token,
            master: node,
        })
    };
    let theirs = |op| {
        Record::Mastered(MasterRecord {
            op,
            space,
            name: name.clone(),
            node,
            incarnation,
            lock,
            mode,
            token,
        })
    };
    let event = Event {
        number: 1,
        unix_ms: 0,
        epoch: Epoch(9),
        what: What::Active,
        reason: Reason::LeaseRenewed,
        detail: "text".to_owned(),
    };
    let records = [
        Record::Life { boot: BootId(5) },
        Record::Lease {
            until: Instant(9000),
        },
        Record::Event(Box::new(event)),
        Record::Master {
            space,
            name: name.clone(),
            here: true,
        },
        own(Op::Asked),
        theirs(Op::Restated),
        own(Op::Granted),
        theirs(Op::Granted),
        own(Op::Converting),
        own(Op::Refused),
        own(Op::Unlocked),
        theirs(Op::Purged),
        Record::Recovery {
            node,
            incarnation,
            phase: Phase::Restated,
        },
    ];
    for (record, at) in records.iter().zip(100..) {
        recorder.record(Instant(at), record);
    }
    let head = Head {
        build: "b".to_owned(),
        cluster: "c".to_owned(),
        node,
        name: NodeName::new("n2").expect("valid"),
        recorder: BootId(5),
        clock: [1; 16],
        at: Instant(8000),
        unix_ms: 5000,
        reason: "asked for".to_owned(),
        nodes: vec![(node, NodeName::new("n2").expect("valid"))],
        spaces: vec![(space, LockspaceName::new("default").expect("valid"))],
    };
    let bytes = Dump::of(&recorder, head).encode();
    vec![
        one("dump", [&[0], &bytes[..]].concat()),
        one("sealed", [&[1], &bytes[..]].concat()),
    ]
}

fn journals() -> Seeds {
    let records = |how: u8, tail: &[u8]| {
        Script::new()
            .raw(&[how, 2, 1])
            .block(b"first record")
            .raw(&[2])
            .block(&[7; 700])
            .raw(tail)
            .0
    };
    vec![
        one("whole", records(2, &[0, 0, 0])),
        one("zeroed", records(2, &[0, 1, 3, 0])),
        one("cut", records(2, &[0, 0, 1, 0, 5])),
        one("bent", records(2, &[1, 1, 20, 2, 3, 0, 0])),
        one("forged", records(3, &[1, 0, 32, 2, 9, 0, 0])),
        one(
            "raw",
            Script::new().raw(&[0]).raw(b"MNSTJRNL").raw(&[0; 600]).0,
        ),
    ]
}

fn handshakes() -> Seeds {
    let hello = wire::Hello {
        version_min: 1,
        version_max: 1,
        cluster: "c".to_owned(),
        from: NodeId(1),
        to: NodeId(2),
        boot: BootId(7),
        link: LinkId(3),
        params: b"lease=1500ms".to_vec(),
        software: "0.1.0".to_owned(),
    };
    let refusal = wire::encode_refusal(mainstay_transport::RefusalReason::WrongKey);
    let mut message = Vec::new();
    wire::encode_message(wire::MessageKind::Refusal, &refusal, &mut message);
    vec![
        one("preamble", wire::encode_preamble(wire::Preamble::OURS)),
        one("hello", wire::encode_hello(&hello)),
        one("refusal", refusal),
        one("message", message),
        one("frame", 1041_u32.to_le_bytes()),
    ]
}

fn configs() -> Seeds {
    let small = "[cluster]\nname = \"c\"\n[[node]]\nid = 1\nname = \"a\"\naddresses = [\"127.0.0.1:7464\"]\n";
    let full = "this-node = \"a\"\nkey-file = \"k\"\nstate-dir = \"s\"\nsocket = \"/tmp/m\"\n[cluster]\nname = \"c\"\n\
                [timings]\nheartbeat-ms = 100\ndead-ms = 1000\nlease-ms = 1500\ndrift-ppm = 10000\n\
                [fencing]\npolicy = \"lease\"\n[log]\nlevel = \"info\"\nformat = \"json\"\n\
                [[node]]\nid = 1\nname = \"a\"\nvotes = 2\naddresses = [\"[::1]:7464\", \"10.0.0.1:7464\"]\n\
                [[node]]\nid = 2\nname = \"b\"\nvotes = 1\naddresses = [\"10.0.0.2:7464\", \"10.0.1.2:7464\"]\n";
    vec![one("small", small), one("full", full)]
}

fn cibs() -> Seeds {
    let text = r#"<?xml version="1.0"?>
<!-- before -->
<cib epoch="1" num_updates="0" admin_epoch="0" validate-with="pacemaker-3.9">
  <configuration>
    <crm_config><cluster_property_set id="o"><nvpair id="o1" name="stonith-enabled" value="true"/></cluster_property_set></crm_config>
    <nodes><node id="1" uname="a"><instance_attributes id="n"><nvpair id="n1" name="rack" value="&lt;1&gt;"/></instance_attributes></node></nodes>
    <resources>
      <group id="g"><primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2"><operations><op id="m" name="monitor" interval="10s" timeout="PT20S"/></operations></primitive></group>
      <clone id="c"><primitive id="web" class="systemd" type="nginx"/></clone>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="g"><rule id="r" score="-INFINITY"><expression id="e" attribute="rack" operation="ne" value="1"/></rule></rsc_location>
      <rsc_colocation id="k" rsc="g" with-rsc="c" score="100"/><rsc_order id="d" first="c" then="g" kind="Optional"/>
    </constraints>
  </configuration>
  <status><node_state id="1" uname="a" crmd="online" in_ccm="true" unknown="x"/></status>
</cib>
"#;
    let heartbeat = r#"<cib have_quorum="true" generated="true" epoch="1" num_updates="0" admin_epoch="0">
  <configuration>
    <crm_config><cluster_property_set id="o"><attributes><nvpair id="o1" name="symmetric_cluster" value="true"/></attributes></cluster_property_set></crm_config>
    <nodes><node id="1" uname="a" type="normal"/></nodes>
    <resources><master_slave id="ms"><instance_attributes id="i"><attributes><nvpair id="i1" name="clone_max" value="2"/></attributes></instance_attributes><primitive id="d" class="ocf" provider="heartbeat" type="drbd"/></master_slave></resources>
    <constraints><rsc_order id="x" from="d" to="ms" type="after"/><rsc_location id="l" rsc="d"><rule id="r" score="100"><expression id="e" attribute="\#uname" operation="eq" value="a"/></rule></rsc_location></constraints>
  </configuration>
  <status/>
</cib>
"#;
    vec![one("cib", text), one("heartbeat", heartbeat)]
}

/// Clients that do anything: whatever the bytes, they mean something.
fn protocols() -> Seeds {
    let one = |number: u64| {
        let mut entropy = mainstay_base::Entropy::new(number);
        let mut bytes: Vec<u8> = (0..640).map(|_| entropy.next_u64() as u8).collect();
        bytes[1] = number as u8; // What they do most.
        one(&format!("any-{number}"), bytes)
    };
    (1..=8).map(one).collect()
}

/// The decisions that make each kind of element, where it belongs, with attributes.
fn elements() -> Seeds {
    use crate::cib::{ATTRIBUTES, ELEMENTS, VALUES};
    let find = |all: &[&str], name: &str| all.iter().position(|n| *n == name).unwrap_or(0) as u8;
    let open = |script: Script, name: &str, attributes: &[(&str, &str)]| {
        let count = attributes.len() as u8;
        let script = script.raw(&[0, find(ELEMENTS, name), count]);
        attributes.iter().fold(script, |script, (name, value)| {
            script.raw(&[find(ATTRIBUTES, name), find(VALUES, value)])
        })
    };
    let close = [7];
    let mut resources = open(Script::new(), "configuration", &[]);
    resources = open(resources, "resources", &[]);
    resources = open(resources, "group", &[("id", "b")]);
    resources = open(
        resources,
        "primitive",
        &[("id", "a"), ("class", "ocf"), ("type", "b")],
    );
    resources = open(resources, "operations", &[]);
    resources = open(resources, "op", &[("name", "monitor"), ("interval", "10s")]);
    resources = resources.raw(&close).raw(&close);
    resources = open(resources, "meta_attributes", &[("id", "b")]);
    resources = open(
        resources,
        "nvpair",
        &[("name", "clone-max"), ("value", "5")],
    );

    let mut constraints = open(Script::new(), "configuration", &[]);
    constraints = open(constraints, "constraints", &[]);
    constraints = open(constraints, "rsc_location", &[("id", "a"), ("rsc", "b")]);
    for _ in 0..2 {
        constraints = open(constraints, "rule", &[("score", "5")]);
        constraints = open(
            constraints,
            "expression",
            &[("attribute", "#uname"), ("operation", "eq"), ("value", "a")],
        );
        constraints = constraints.raw(&close).raw(&close);
    }
    constraints = constraints.raw(&close);
    constraints = open(
        constraints,
        "rsc_order",
        &[("id", "b"), ("kind", "Optional")],
    );
    constraints = open(constraints, "resource_set", &[("id", "a-set")]);
    constraints = open(constraints, "resource_ref", &[("id", "a")]);
    vec![
        one("resources", resources.0),
        one("constraints", constraints.0),
    ]
}

/// The native form: one text as somebody types it, one of what has no short form.
fn lines() -> Seeds {
    let typed = r##"# two nodes
property stonith-enabled=true no-quorum-policy=stop
rsc_defaults resource-stickiness=100
node 1: n1 utilization ram=4096
node 2 n2
  attributes rack="a b"
template server ocf:heartbeat:apache
  op monitor interval=10s timeout=20s
primitive ip ocf:heartbeat:IPaddr2 \
    params ip=10.0.0.9 \
    op monitor interval=10s
primitive httpd @server
primitive fence stonith:fence_ipmilan
group web ip httpd meta target-role=Started
clone db
  meta promotable=true
  primitive pg ocf:heartbeat:pgsql
    params
      user="x \"y\"" $id=the-user
      rule 5: #uname eq n1
bundle box
  podman image=web:1 replicas=2
  network control-port=9999
location l1 web 100: n1
location l2 web resource-discovery=never
  rule -INFINITY: not_defined pingd or pingd number:lte 0
  rule pingd: defined pingd
location l3 /^test-/ rule 5: #uname eq n1 and rack ne b
colocation c1 INFINITY: web db:Promoted
colocation c2 -50:
  set ip httpd sequential=false
  set db
order o1 Mandatory: db:promote web:start symmetrical=false
ticket t1 T: web loss-policy=fence
fencing-level id=f1 target=n1 index=1 devices=fence
tag both: web db
alert a1 /usr/bin/tell
status
  node_state id=1 uname=n1 crmd=online
"##;
    let by_name = r#"# before

# two
# lines
cib epoch=1 xmlns:x=urn:x x:y=""
  configuration
    # inside
    nodes
    gadget id=g size="5 \"inches\""
      <order a=1
      <set id=s
      !instruction "php x"
      !text "words & <more>"
    resources
      primitive id="a=b" class=ocf provider=p type=t:u zone=7
        operations id=ops
          op $id=odd monitor interval=5s
        params $id-ref=other
        params $id=s $score=5
          rule $id=r 0: boolean-op=and
            date_expression id=d operation=date_spec
              date_spec id=ds hours=9-16
          =x $id=p
    constraints
      rsc_location id=m rsc="a=b"
        rule id-ref=r
# after
"#;
    vec![one("typed", typed), one("by-name", by_name)]
}

fn clients() -> Seeds {
    let mut all = Script::new();
    let mut seeds = Seeds::new();
    for (name, message) in golden("to_client.txt") {
        // A lock, a ping and a call by number 4, then the message, whole.
        let script = Script::new()
            .raw(&[0, 1, 5, 0, 2, 3, 4, 0, 4, 1])
            .raw(&[6])
            .block(&message);
        all = all.raw(&[0, 3, 2, 6]).block(&message);
        seeds.push(one(&name, script.0));
    }
    seeds.push(one("all", all.0));
    seeds
}

/// Single steps of the attack in `node::peers`, each on a settled world.
fn peers() -> Seeds {
    let mut seeds = Seeds::new();
    for scenario in 0..2 {
        for (name, message) in golden("dlm.txt") {
            let script = Script::new().raw(&[scenario, 5]).block(&message);
            let script = script.raw(&[0, 3, 5]).block(&message).raw(&[0, 9]);
            if scenario == 0 || name.starts_with("res") || name.starts_with("query") {
                seeds.push(one(&format!("dlm-{name}-{scenario}"), script.0));
            }
        }
        for (name, message) in memberships() {
            let script = Script::new().raw(&[scenario, 4]).block(&message);
            seeds.push(one(&format!("{name}-{scenario}"), script.raw(&[0, 40]).0));
        }
        let tampered =
            Script::new().raw(&[scenario, 7, 1, 1, 0, 4, 0, 9, 7, 3, 1, 0, 2, 0, 1, 0, 99]);
        seeds.push(one(&format!("log-{scenario}"), tampered.0));
        let network = Script::new().raw(&[scenario, 3]).block(&[1, 0, 9, 0, 3]);
        let network = network.raw(&[0, 20, 10, 0, 1, 10, 0, 0, 11, 0, 200]);
        seeds.push(one(&format!("network-{scenario}"), network.0));
    }
    for (name, command) in commands() {
        let script = Script::new().raw(&[0, 8]).block(&command.encode());
        seeds.push(one(&format!("forward-{name}"), script.raw(&[0, 30]).0));
    }
    seeds
}

fn callers() -> Seeds {
    let mut seeds = Seeds::new();
    let mut all = Script::new();
    for (name, message) in golden("ask.txt") {
        let script = Script::new().raw(&[4]).block(&message).raw(&[0, 9]);
        all = all.raw(&script.0);
        seeds.push(one(&name, script.0));
    }
    seeds.push(one("all", all.0));
    let calls = [
        3, 1, 5, 8, 0, 0, 0, 0x13, 2, 5, 8, 0, 0, 0, 0x11, 0x13, 2, 5, 8, 0, 0, 0, 3, 1, 3, 0, 0,
        1, 3, 1, 0, 0, 0, 2, 0x12, 0, 5,
    ];
    seeds.push(one("contention", calls));
    seeds
}

fn boots() -> Seeds {
    let mut seeds = Seeds::new();
    let world = World::new(0, false);
    let script = world
        .records()
        .iter()
        .fold(Script::new(), |s, (kind, bytes)| {
            s.raw(&[*kind]).block(bytes)
        });
    seeds.push(one("journal", script.0));
    let founded = Script::new()
        .raw(&[1])
        .block(&founding(&[NodeId(1)]).encode());
    seeds.push(one("founded", founded.0));
    seeds
}

fn logs() -> (Seeds, Seeds) {
    let (records, messages) = consensus::samples();
    let whole = records.iter().fold(Script::new(), |s, r| s.block(r));
    let few = records
        .iter()
        .take(3)
        .fold(Script::new(), |s, r| s.block(r));
    let made_up = messages
        .iter()
        .step_by(messages.len() / 12 + 1)
        .fold(Script::new().raw(&[0, 20]), |s, m| s.raw(&[10]).block(m));
    let elected = Script::new()
        .raw(&[0, 31, 7])
        .block(b"entry")
        .raw(&[0, 9, 0x17]);
    let elected = elected.block(b"entry").raw(&[0, 9, 8, 0, 31]);
    let tampered = Script::new().raw(&[
        0, 31, 11, 4, 1, 0, 5, 0, 7, 0x1b, 9, 2, 1, 3, 0, 4, 1, 4, 0, 9,
    ]);
    let changes = Script::new().raw(&[
        0, 31, 9, 1, 4, 0, 0x19, 2, 5, 1, 0x29, 3, 0, 2, 0, 20, 0x18, 0, 20,
    ]);
    (
        vec![one("whole", whole.0), one("few", few.0)],
        vec![
            one("made-up", made_up.0),
            one("elected", elected.0),
            one("tampered", tampered.0),
            one("changes", changes.0),
        ],
    )
}

/// Inputs for a target, by name.
///
/// # Panics
/// If the golden bytes of `mainstay-wire` are not where they belong.
#[must_use]
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "wire-dlm" => golden("dlm.txt"),
        "wire-asks" => golden("ask.txt"),
        "wire-answers" => golden("to_client.txt"),
        "membership" => memberships(),
        "commands" => commands()
            .into_iter()
            .map(|(name, command)| one(name, command.encode()))
            .collect(),
        "cluster-state" => states(),
        "link" => links(),
        "consensus" => logs().1,
        "consensus-records" => logs().0,
        "journal" | "store" => journals(),
        "recorder" => dumps(),
        "handshake" => handshakes(),
        "key" => vec![one(
            "key",
            format!(
                "# a comment\nmainstay-key-v1 {}\n",
                "0123456789abcdef".repeat(4)
            ),
        )],
        "config" => configs(),
        "cib" => cibs(),
        "cib-elements" => elements(),
        "cib-native" => lines(),
        "client" => clients(),
        "node-peers" => peers(),
        "node-clients" => callers(),
        "client-protocol" => protocols(),
        "node-boot" => boots(),
        _ => Vec::new(),
    }
}
