//! The score tables of the Linux-HA handbook, to the number: two nodes, stickiness 777, and the
//! attribute `pingd`, 2000 for each ping node that a node reaches, as a score.

use mainstay_cib::native;
use mainstay_policy::{Ask, Dialect, Plan, plan};
use std::fmt::Write as _;

/// How many ping nodes each node reaches.
struct Reach {
    lnxrh2: u32,
    lnxrh3: u32,
}

/// A cluster of two nodes, with what runs where.
fn cluster(config: &str, reach: &Reach, running: &[(&str, &str)]) -> String {
    let mut text = format!(
        "cib crm_feature_set=2.0 have-quorum=1\n\
         property stonith-enabled=false no-quorum-policy=ignore\n\
         node lnxrh2 lnxrh2\nnode lnxrh3 lnxrh3\n{config}status\n"
    );
    for (node, reached) in [("lnxrh2", reach.lnxrh2), ("lnxrh3", reach.lnxrh3)] {
        let pingd = 2000 * reached;
        let _ = write!(
            text,
            "  node_state id={node} uname={node} in_ccm=true crmd=online join=member expected=member\n\
             \x20   transient_attributes id={node}\n\
             \x20     instance_attributes id=status-{node}\n\
             \x20       nvpair id=pingd-{node} name=pingd value={pingd}\n\
             \x20   lrm id={node}\n      lrm_resources\n"
        );
        for (service, at) in running {
            let (task, rc) = if *at == node {
                ("start", 0)
            } else {
                ("monitor", 7)
            };
            let expected = if *at == node { 0 } else { 7 };
            let _ = write!(
                text,
                "        lrm_resource id={service} class=ocf provider=heartbeat type=Dummy\n\
                 \x20         lrm_rsc_op id={service}_{task}_0 operation={task} interval=0 call-id=1 \
                 rc-code={rc} op-status=0 transition-key=1:1:{expected}:u \
                 transition-magic=0:{rc};1:1:{expected}:u \
                 op-digest=f2317cad3d54cec5d7d7aa7d0bf35cf8\n"
            );
        }
    }
    text
}

fn planned(text: &str) -> Plan {
    let reading = native::read(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let ask = Ask {
        now: 1_000_000_000,
        dialect: Dialect::Heartbeat,
    };
    plan(&reading.document.cib, ask)
}

/// The score by which a service was placed on a node.
fn score<'p>(plan: &'p Plan, service: &str, node: &str) -> &'p str {
    let mut scores = plan.report.scores.iter();
    let is_it = |s: &&mainstay_policy::Score| {
        s.stage == "primitive" && s.service == service && s.node.as_deref() == Some(node)
    };
    &scores.find(is_it).expect("a score").score
}

fn home<'p>(plan: &'p Plan, service: &str) -> &'p str {
    &plan.report.places[service][0].node
}

const ONE_GROUP: &str = "\
rsc_defaults resource-stickiness=777
group web_group
  primitive server_ip Dummy
  primitive httpd_server Dummy
location reach web_group
  rule pingd: defined pingd
";

/// Protects those who come from the handbook: the group stays where both of its members run.
#[test]
fn a_group_sticks_with_all_of_its_members() {
    let reach = Reach {
        lnxrh2: 3,
        lnxrh3: 3,
    };
    let running = [("server_ip", "lnxrh3"), ("httpd_server", "lnxrh3")];
    let plan = planned(&cluster(ONE_GROUP, &reach, &running));
    assert_eq!(score(&plan, "server_ip", "lnxrh3"), "9108");
    assert_eq!(score(&plan, "server_ip", "lnxrh2"), "6000");
    assert_eq!(score(&plan, "httpd_server", "lnxrh3"), "1554");
    assert_eq!(score(&plan, "httpd_server", "lnxrh2"), "-INFINITY");
    assert_eq!(home(&plan, "server_ip"), "lnxrh3");
    assert!(plan.report.changes.is_empty(), "{:?}", plan.report.changes);
}

/// Protects the same: a node that reaches nothing loses the group, and then has no claim to it.
#[test]
fn a_group_leaves_a_node_that_was_cut_off() {
    let reach = Reach {
        lnxrh2: 3,
        lnxrh3: 0,
    };
    let running = [("server_ip", "lnxrh3"), ("httpd_server", "lnxrh3")];
    let plan = planned(&cluster(ONE_GROUP, &reach, &running));
    assert_eq!(home(&plan, "server_ip"), "lnxrh2");
    let running = [("server_ip", "lnxrh2"), ("httpd_server", "lnxrh2")];
    let plan = planned(&cluster(ONE_GROUP, &reach, &running));
    assert_eq!(score(&plan, "server_ip", "lnxrh2"), "9108");
    assert_eq!(score(&plan, "server_ip", "lnxrh3"), "0");
    assert_eq!(home(&plan, "httpd_server"), "lnxrh2");
}

fn two_groups(stickiness: u32, preference: u32) -> String {
    let mut text = format!("rsc_defaults resource-stickiness={stickiness}\n");
    for (number, node) in [("01", "lnxrh3"), ("02", "lnxrh2")] {
        let _ = write!(
            text,
            "group group_{number}\n\
             \x20 primitive server_ip_{number} Dummy\n\
             \x20 primitive httpd_{number} Dummy\n\
             location home_{number} group_{number} {preference}: {node}\n\
             location reach_{number} group_{number}\n  rule pingd: defined pingd\n"
        );
    }
    text
}

const AT_HOME: [(&str, &str); 4] = [
    ("server_ip_01", "lnxrh3"),
    ("httpd_01", "lnxrh3"),
    ("server_ip_02", "lnxrh2"),
    ("httpd_02", "lnxrh2"),
];

/// Protects the same: preference and stickiness together hold a group on a node that is cut off.
#[test]
fn a_strong_preference_outweighs_the_network() {
    let reach = Reach {
        lnxrh2: 0,
        lnxrh3: 3,
    };
    let plan = planned(&cluster(&two_groups(777, 3500), &reach, &AT_HOME));
    assert_eq!(score(&plan, "server_ip_02", "lnxrh2"), "6608");
    assert_eq!(score(&plan, "server_ip_02", "lnxrh3"), "6000");
    assert_eq!(home(&plan, "server_ip_02"), "lnxrh2");
}

/// Protects the same: without stickiness, a weaker preference does not.
#[test]
fn a_weak_preference_does_not() {
    let reach = Reach {
        lnxrh2: 0,
        lnxrh3: 3,
    };
    let plan = planned(&cluster(&two_groups(0, 1000), &reach, &AT_HOME));
    assert_eq!(score(&plan, "server_ip_02", "lnxrh2"), "1000");
    assert_eq!(score(&plan, "server_ip_02", "lnxrh3"), "6000");
    assert_eq!(home(&plan, "server_ip_02"), "lnxrh3");
}
