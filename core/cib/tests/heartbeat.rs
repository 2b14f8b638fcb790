//! Heartbeat's notation in both directions.

use mainstay_cib::{
    Cib, Level, Problem,
    constraints::Constraint,
    heartbeat::{export, import},
    read,
    resources::Resource,
    sets::lookup,
    value::{LossPolicy, OrderKind, Role, Score},
    write,
};

const OLD: &str = r##"<?xml version="1.0"?>
<!DOCTYPE cib SYSTEM "crm-1.0.dtd">
<!-- the old days -->
<cib admin_epoch="0" epoch="3" num_updates="1" have_quorum="true" num_peers="2" dc_uuid="u1">
  <configuration>
    <crm_config><cluster_property_set id="o"><attributes>
      <nvpair id="1" name="no_quorum_policy" value="ignore"/>
      <nvpair id="2" name="default_resource_stickiness" value="777"/>
      <nvpair id="3" name="default_resource_failure_stickiness" value="-100"/>
      <nvpair id="4" name="transition_idle_timeout" value="60s"/>
    </attributes></cluster_property_set></crm_config>
    <nodes>
      <node id="u1" uname="lnx1" type="normal"/>
      <node id="u2" uname="10.0.0.1" type="ping"/>
    </nodes>
    <resources>
      <group id="g" is_managed="true">
        <instance_attributes><attributes><nvpair name="target_role" value="started"/></attributes></instance_attributes>
        <!-- the address -->
        <primitive id="ip" class="heartbeat" type="IPaddr">
          <operations>
            <op id="1" name="monitor" interval="5s" on_fail="nothing" disabled="false"/>
            <op id="1" name="start" prereq="quorum"/>
          </operations>
          <instance_attributes><attributes><nvpair name="ip" value="10.0.0.9"/></attributes></instance_attributes>
        </primitive>
      </group>
      <clone id="7up">
        <instance_attributes id="7up-ia"><attributes>
          <nvpair id="7up-1" name="clone_max" value="2"/>
          <nvpair id="7up-2" name="size" value="9"/>
        </attributes></instance_attributes>
        <primitive id="child" class="ocf" provider="p" type="t"/>
      </clone>
      <master_slave id="ms">
        <instance_attributes><attributes><nvpair name="master_max" value="1"/></attributes></instance_attributes>
        <primitive id="state" class="ocf" provider="heartbeat" type="Stateful">
          <operations><op id="m" name="monitor" interval="10s" role="Master"/></operations>
        </primitive>
      </master_slave>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="g"><rule id="l:r" score_attribute="pingd" boolean_op="or">
        <expression attribute="pingd" operation="defined"/>
      </rule></rsc_location>
      <rsc_colocation id="c" from="7up" to="ms" to_role="master" score="infinity"/>
      <rsc_order id="o1" from="g" to="ms" to_action="promote" score="0"/>
      <rsc_order id="o2" from="ip" type="before" to="7up"/>
    </constraints>
  </configuration>
  <status>
    <node_state id="u1" uname="lnx1" crmd="online" join="member" expected="member" in_ccm="true" shutdown="12">
      <lrm><lrm_resources>
        <lrm_resource id="g:ip" class="heartbeat" type="IPaddr">
          <lrm_rsc_op id="g:ip_monitor_0" operation="monitor" interval="0" op_status="4" rc_code="7" call_id="3" transition_key="5:abc" transition_magic=""/>
        </lrm_resource>
        <lrm_resource id="ms:state:1" class="ocf" provider="heartbeat" type="Stateful">
          <lrm_rsc_op id="ms:state:1_monitor_10000" operation="monitor" interval="10000" op_status="0" rc_code="8" call_id="9" transition_key="6:abc"/>
        </lrm_resource>
      </lrm_resources></lrm>
    </node_state>
  </status>
</cib>
"##;

fn imported(text: &str) -> (Cib, Vec<Problem>) {
    let reading = import(text).expect("a CIB");
    (reading.document.cib, reading.problems)
}

fn meta<'a>(resource: &'a Resource, name: &str) -> Option<&'a str> {
    lookup(resource.meta(), name)
}

/// Protects old clusters: every difference between the notations is translated, and the defaults
/// that have turned around are written out.
#[test]
fn the_old_words_become_the_new_ones() {
    let (cib, problems) = imported(OLD);
    assert!(
        problems.iter().all(|p| p.level < Level::Error),
        "{problems:?}"
    );
    assert_eq!(cib.option("no-quorum-policy"), Some("ignore"));
    assert_eq!(cib.option("stonith-enabled"), Some("false"));
    assert_eq!(cib.option("cluster-delay"), Some("60s"));
    assert_eq!(
        lookup(cib.rsc_defaults(), "resource-stickiness"),
        Some("777")
    );
    assert_eq!(cib.have_quorum.get(), Some(true));
    assert_eq!(cib.nodes().len(), 1);

    let [group, clone, ms] = cib.resources() else {
        panic!("three resources")
    };
    assert_eq!(meta(group, "target-role"), Some("started"));
    assert_eq!(meta(group, "is-managed"), Some("true"));
    let ip = group.primitives()[0];
    assert_eq!(ip.agent_name(), "ocf:heartbeat:IPaddr");
    assert_eq!(lookup(&ip.meta, "requires"), Some("quorum"));
    assert_eq!(lookup(&ip.parameters, "ip"), Some("10.0.0.9"));
    assert_eq!(ip.ops()[0].on_fail.text(), Some("ignore"));
    assert_eq!(ip.ops()[1].interval.text(), Some("0"));
    assert_ne!(ip.ops()[0].id, ip.ops()[1].id);
    assert_eq!(&**clone.id(), "_7up");
    assert_eq!(meta(clone, "globally-unique"), Some("true"));
    assert_eq!(meta(clone, "clone-max"), Some("2"));
    assert_eq!(lookup(&clone.primitives()[0].parameters, "size"), Some("9"));
    assert!(ms.is_promotable());
    assert_eq!(meta(ms, "promoted-max"), Some("1"));
}

/// Protects order: what came first still does, whichever way it was written.
#[test]
fn constraints_keep_their_direction() {
    let (cib, _) = imported(OLD);
    let [
        Constraint::Location(l),
        Constraint::Colocation(c),
        Constraint::Order(o1),
        Constraint::Order(o2),
    ] = cib.constraints()
    else {
        panic!("four constraints")
    };
    assert_eq!(l.rules[0].score_attribute.as_deref(), Some("pingd"));
    assert_eq!(
        (c.rsc.as_deref(), c.with_rsc.as_deref()),
        (Some("_7up"), Some("ms"))
    );
    assert_eq!(c.with_rsc_role.get(), Some(Role::Promoted));
    assert_eq!(c.score.get(), Some(Score::INFINITY));
    assert_eq!(
        (o1.first.as_deref(), o1.then.as_deref()),
        (Some("ms"), Some("g"))
    );
    assert_eq!(o1.first_action.text(), Some("promote"));
    assert_eq!(o1.then_action.text(), Some("start"));
    assert_eq!(o1.strength(), OrderKind::Optional);
    assert_eq!(
        (o2.first.as_deref(), o2.then.as_deref()),
        (Some("ip"), Some("_7up"))
    );
}

/// Protects recovery: histories name primitives, and know which result was hoped for.
#[test]
fn histories_are_understood() {
    let (cib, _) = imported(OLD);
    let state = &cib.node_states()[0];
    let [probe, monitor] = state.history() else {
        panic!("two histories")
    };
    assert_eq!(&*probe.id, "ip");
    assert_eq!(probe.provider.as_deref(), Some("heartbeat"));
    assert_eq!(probe.ops[0].operation_key.as_deref(), Some("ip_monitor_0"));
    assert_eq!(probe.ops[0].transition_key.text(), Some("0:5:7:abc"));
    assert_eq!(probe.ops[0].transition_magic.text(), Some("4:7;0:5:7:abc"));
    assert_eq!(&*monitor.id, "state:1");
    assert_eq!(
        monitor.ops[0].transition_key.value().map(|k| k.target_rc),
        Some(8)
    );
    let shutdown = state.transient_sets().find_map(|s| s.get("shutdown"));
    assert_eq!(shutdown, Some("12"));
}

/// Protects messages: they point into the file that the operator has.
#[test]
fn problems_point_at_the_old_text() {
    let (cib, problems) = imported(OLD);
    let sticky = problems.iter().find(|p| p.rule == "failure-stickiness");
    assert_eq!(sticky.map(|p| p.at.line), Some(9));
    let line = OLD.lines().position(|l| l.contains("<clone"));
    assert_eq!(
        Some(cib.resources()[1].at().line as usize),
        line.map(|l| l + 1)
    );
    let text = write(&import(OLD).expect("a CIB").document);
    assert!(text.starts_with("<!-- the old days -->\n"), "{text}");
    assert!(text.contains("<!-- the address -->"), "{text}");
}

/// Protects from silent change: what Heartbeat meant and nothing today means is refused.
#[test]
fn what_only_heartbeat_knew_is_refused() {
    for (old, new) in [
        (
            "operation=\"defined\"",
            "operation=\"#colocated\" value=\"x\"",
        ),
        ("to_action=\"promote\"", "to_action=\"levitate\""),
    ] {
        let (_, problems) = imported(&OLD.replace(old, new));
        let refused: Vec<_> = problems
            .iter()
            .filter(|p| p.level == Level::Error)
            .collect();
        assert_eq!(refused.len(), 1, "{problems:?}");
        assert_eq!(refused[0].rule, "heartbeat-only");
    }
    let lone = OLD.replace("<lrm_resources>", "<lrm_resources><lrm_resource id=\"x\"/>");
    let reading = import(&lone).expect("a CIB");
    assert!(reading.accepted().is_err());
    assert!(import("<cib><a ></cib>").is_err());
}

/// Protects the way back: what was imported can be said in the old notation, and means the same when
/// it is read again.
#[test]
fn there_and_back_again() {
    let (cib, _) = imported(OLD);
    let (text, problems) = export(&cib);
    assert_eq!(problems, []);
    let (again, _) = imported(&text);
    assert_eq!(again.to_xml(), cib.to_xml());
}

/// Protects from losing things on the way back: what Heartbeat cannot say is named, each once.
#[test]
fn what_heartbeat_cannot_say_is_named() {
    let text = r#"<cib>
  <configuration>
    <resources>
      <template id="t" class="ocf" provider="p" type="t"/>
      <bundle id="b"><docker image="i"/></bundle>
      <clone id="c"><primitive id="p" class="systemd" type="x"><utilization id="u"><nvpair id="n" name="ram" value="1"/></utilization></primitive></clone>
    </resources>
    <constraints>
      <rsc_ticket id="k" rsc="p" ticket="T" loss-policy="stop"/>
      <rsc_order id="s" kind="Serialize" first="p" then="c"/>
    </constraints>
  </configuration>
</cib>"#;
    let cib = read(text).expect("a CIB").document.cib;
    let Constraint::Ticket(ticket) = &cib.constraints()[0] else {
        panic!("a ticket")
    };
    assert_eq!(ticket.loss_policy.get(), Some(LossPolicy::Stop));
    let (old, problems) = export(&cib);
    let named: Vec<&str> = problems.iter().map(|p| &*p.element).collect();
    assert_eq!(
        named,
        [
            "template",
            "bundle",
            "utilization",
            "rsc_ticket",
            "rsc_order"
        ]
    );
    assert!(problems.iter().all(|p| p.rule == "not-in-heartbeat"));
    assert!(
        old.contains("globally_unique=\"false\"") && old.contains("stonith_enabled"),
        "{old}"
    );
}
