//! Pacemaker's XML: what is read, what is said about it, what is written.

use mainstay_cib::{
    Cib, Level, Problem, Reading,
    constraints::Constraint,
    index::Index,
    read,
    resources::Resource,
    rules::Condition,
    sets::lookup,
    validate::validate,
    value::{Comparison, Discovery, Interval, Membership, OrderKind, Role, Score},
    write,
};

fn around(configuration: &str, status: &str) -> String {
    format!(
        "<cib epoch=\"7\" num_updates=\"3\" admin_epoch=\"0\" validate-with=\"pacemaker-3.9\">\n  \
         <configuration>\n{configuration}  </configuration>\n  <status>\n{status}  </status>\n</cib>\n"
    )
}

fn reading(configuration: &str) -> Reading {
    read(&around(configuration, "")).expect("a CIB")
}

fn clean(configuration: &str) -> Cib {
    let reading = reading(configuration);
    assert_eq!(reading.problems, []);
    reading.document.cib
}

fn rules(problems: &[Problem]) -> Vec<&'static str> {
    problems.iter().map(|p| p.rule).collect()
}

/// Protects the policy engine's view of resources: every kind, with what belongs to it.
#[test]
fn resources_of_all_kinds_are_read() {
    let cib = clean(
        r#"<resources>
      <template id="base" class="ocf" provider="pacemaker" type="Dummy">
        <operations>
          <op id="base-mon" name="monitor" interval="10s" timeout="20s"/>
          <op id="base-start" name="start" interval="0" timeout="1min"/>
        </operations>
      </template>
      <primitive id="one" template="base">
        <operations>
          <op id="one-mon" name="monitor" interval="30s" role="Started"/>
        </operations>
        <utilization id="u"><nvpair id="u-ram" name="ram" value="512"/></utilization>
      </primitive>
      <group id="pair">
        <primitive id="a" class="systemd" type="a"/>
        <primitive id="b" class="lsb" type="b"/>
      </group>
      <clone id="many">
        <meta_attributes id="m"><nvpair id="m-u" name="globally-unique" value="true"/></meta_attributes>
        <group id="inner"><primitive id="c" class="systemd" type="c"/></group>
      </clone>
      <master id="ms"><primitive id="s" class="ocf" provider="pacemaker" type="Stateful"/></master>
      <bundle id="box">
        <podman image="web:1" replicas="3" promoted-max="1"/>
        <network ip-range-start="10.0.0.10" control-port="9999">
          <port-mapping id="p" port="80"/>
        </network>
        <storage><storage-mapping id="st" source-dir="/a" target-dir="/b"/></storage>
        <primitive id="web" class="ocf" provider="heartbeat" type="apache"/>
      </bundle>
    </resources>
"#,
    );
    let tags: Vec<&str> = cib.resources().iter().map(Resource::tag).collect();
    assert_eq!(tags, ["primitive", "group", "clone", "master", "bundle"]);
    let index = Index::new(&cib);
    let one = index.find_primitive("one").unwrap();
    let whole = index.whole(one).unwrap();
    assert_eq!(whole.agent_name(), "ocf:pacemaker:Dummy");
    let ops: Vec<(&str, Option<u64>)> = whole
        .ops()
        .iter()
        .map(|o| (&*o.name, o.interval.get().map(Interval::millis)))
        .collect();
    assert_eq!(ops, [("monitor", Some(30_000)), ("start", Some(0))]);
    assert_eq!(lookup(&one.utilization, "ram"), Some("512"));
    let c = index.find_resource("c").unwrap();
    assert_eq!(&**c.parent.unwrap().id(), "inner");
    assert_eq!(&**c.outermost.id(), "many");
    assert!(cib.resources()[3].is_promotable());
    let Resource::Bundle(bundle) = &cib.resources()[4] else {
        panic!("the bundle comes last")
    };
    let container = bundle.container.as_ref().unwrap();
    assert_eq!(
        (container.name(), container.container().count()),
        ("podman", 3)
    );
    assert_eq!(
        bundle.network.as_ref().unwrap().ports[0].port.get(),
        Some(80)
    );
}

/// Protects placement and ordering: constraints in their present and their old notation.
#[test]
fn constraints_are_read() {
    let cib = clean(
        r##"<constraints>
      <rsc_location id="l1" rsc-pattern="^web" node="n1" score="INFINITY" resource-discovery="exclusive"/>
      <rsc_location id="l2" rsc="a">
        <rule id="r" score-attribute="pingd" boolean-op="or">
          <expression id="e1" attribute="pingd" operation="defined"/>
          <rule id="r2" score="0">
            <expression id="e2" attribute="#uname" operation="eq" value="n2" type="string"/>
            <date_expression id="d" operation="date_spec"><date_spec id="ds" hours="9-16"/></date_expression>
          </rule>
        </rule>
      </rsc_location>
      <rsc_colocation id="c" rsc="a" with-rsc="b" rsc-role="Master" score="-50" influence="false" node-attribute="rack"/>
      <rsc_order id="o1" first="a" then="b" then-action="promote" score="0"/>
      <rsc_order id="o2" kind="Serialize">
        <resource_set id="s" sequential="false" require-all="false" action="start">
          <resource_ref id="a"/>
          <resource_ref id="b"/>
        </resource_set>
      </rsc_order>
      <rsc_ticket id="t" rsc="a" rsc-role="Promoted" ticket="T" loss-policy="fence"/>
    </constraints>
"##,
    );
    let [l1, l2, c, o1, o2, t] = cib.constraints() else {
        panic!("six constraints")
    };
    let Constraint::Location(l1) = l1 else {
        panic!()
    };
    assert_eq!(l1.score.get(), Some(Score::INFINITY));
    assert_eq!(l1.discovery.get(), Some(Discovery::Exclusive));
    let Constraint::Location(l2) = l2 else {
        panic!()
    };
    let [Condition::Attribute(e1), Condition::Rule(inner)] = &l2.rules[0].conditions[..] else {
        panic!("an expression and a rule")
    };
    assert_eq!(e1.operation.get(), Some(Comparison::Defined));
    let Condition::Date(date) = &inner.conditions[1] else {
        panic!()
    };
    assert!(date.spec.as_ref().unwrap().hours.get().unwrap().contains(9));
    let Constraint::Colocation(c) = c else {
        panic!()
    };
    assert_eq!(c.rsc_role.get(), Some(Role::Promoted));
    assert_eq!(c.rsc_role.text(), Some("Master"));
    let (Constraint::Order(o1), Constraint::Order(o2)) = (o1, o2) else {
        panic!()
    };
    assert_eq!(o1.strength(), OrderKind::Optional);
    assert!(o1.is_symmetrical() && !o2.is_symmetrical());
    assert_eq!(o2.sets[0].require_all.get(), Some(false));
    assert_eq!(t.named(), [("rsc", &"a".into())]);
}

/// Protects the plan: what nodes are and what was done on them.
#[test]
fn the_status_is_read() {
    let status = r#"    <node_state id="1" uname="n1" in_ccm="1700000000" crmd="online" join="member" expected="member">
      <transient_attributes id="1">
        <instance_attributes id="status-1">
          <nvpair id="status-1-pingd" name="pingd" value="2000"/>
        </instance_attributes>
      </transient_attributes>
      <lrm id="1">
        <lrm_resources>
          <lrm_resource id="a" type="Dummy" class="ocf" provider="pacemaker">
            <lrm_rsc_op id="a_last_0" operation_key="a_monitor_0" operation="monitor" transition-key="3:1:7:u" transition-magic="0:7;3:1:7:u" exit-reason="" on_node="n1" call-id="5" rc-code="7" op-status="0" interval="0" last-rc-change="1700000001" exec-time="12" op-digest="d"/>
          </lrm_resource>
        </lrm_resources>
      </lrm>
    </node_state>
    <tickets>
      <ticket_state id="T" granted="true" last-granted="17" standby="false" colour="blue"/>
    </tickets>
"#;
    let text =
        around("", status).replace("<configuration>\n  </configuration>", "<configuration/>");
    let reading = read(&text).unwrap();
    assert_eq!(reading.problems, []);
    assert_eq!(write(&reading.document), text);
    let status = reading.document.cib.status.as_ref().unwrap();
    let node = status.node("1").unwrap();
    assert_eq!(node.in_ccm.get(), Some(Membership::Since(1_700_000_000)));
    assert!(node.crmd.get().unwrap().is_yes());
    assert_eq!(
        node.transient_sets().next().unwrap().get("pingd"),
        Some("2000")
    );
    let op = &node.history()[0].ops[0];
    assert_eq!(op.transition_key.value().unwrap().target_rc, 7);
    assert_eq!((op.rc_code.get(), op.call_id.get()), (Some(7), Some(5)));
    let ticket = status.ticket("T").unwrap();
    assert_eq!(ticket.extra.attribute("colour"), Some("blue"));
}

/// Protects everything that we do not know: it is named with its place, and written back there.
#[test]
fn the_unknown_is_named_and_kept() {
    let text = around(
        r#"    <!-- hands off -->
    <resources>
      <primitive zone="7" id="a" class="systemd" type="a &amp; &quot;b&quot;&#10;c">
        <gadget id="g">
          <part/>
        </gadget>
        <meta_attributes id="m">
          <nvpair name="x" id="m-x" value="1"/>
        </meta_attributes>
      </primitive>
    </resources>
    <nodes/>
"#,
        "",
    );
    let text = text.replace("  <status>\n  </status>\n", "  <status/>\n");
    let reading = read(&text).unwrap();
    assert_eq!(
        rules(&reading.problems),
        ["unknown-attribute", "unknown-element"]
    );
    let gadget = &reading.problems[1];
    assert_eq!((gadget.at.line, gadget.at.column), (6, 9));
    assert_eq!(gadget.id.as_deref(), Some("g"));
    assert!(
        gadget
            .to_string()
            .contains("6:9: warning: <gadget id=\"g\">"),
        "{gadget}"
    );
    assert_eq!(write(&reading.document), text);
}

/// Protects operators' time: all problems come at once, each with its place and a way out.
#[test]
fn all_problems_are_found_at_once() {
    let reading = reading(
        r#"<resources>
      <primitive class="systemd" type="a"/>
      <primitive id="b" class="systemd" type="b">
        <operations><op id="o" name="monitor" interval="often"/></operations>
      </primitive>
      <primitive id="b" template="nowhere"/>
      <clone id="empty"/>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="ghost" node="n1" score="much"/>
    </constraints>
    <constraints/>
"#,
    );
    let found = rules(&reading.problems);
    assert_eq!(
        found,
        [
            "missing-attribute",
            "bad-value",
            "bad-value",
            "repeated-element"
        ]
    );
    assert!(
        reading
            .problems
            .iter()
            .all(|p| p.at.line > 0 && !p.mend.is_empty())
    );
    let found = validate(&reading.document.cib);
    assert_eq!(
        rules(&found),
        [
            "duplicate-id",
            "missing-template",
            "empty-clone",
            "missing-resource"
        ]
    );
    let accepted = reading.accepted().unwrap_err();
    assert!(accepted.iter().any(|p| p.level == Level::Error));
}

/// Protects from text that is no CIB: one clear message with a place, whatever it is.
#[test]
fn what_is_no_cib_is_refused() {
    let message = |text: &str| read(text).unwrap_err().to_string();
    assert!(
        message("<cib>\n<nodes>\n</cib>").starts_with("3:"),
        "no XML"
    );
    assert!(message("").contains("not well-formed"));
    assert!(message("<rss/>").contains("outermost element is <rss>"));
    assert!(message("<!DOCTYPE cib [<!ENTITY a \"b\">]><cib/>").contains("declares something"));
    let heartbeat = "<cib><crm_config><cluster_property_set><attributes><nvpair/></attributes>\
                     </cluster_property_set></crm_config></cib>";
    assert!(message(heartbeat).contains("Heartbeat"));
    let deep = format!("<cib>{}</cib>", "<configuration>".repeat(3));
    assert!(message(&deep).contains("not well-formed"));
}

/// Protects the reader from hostile depth: rules in rules end somewhere.
#[test]
fn depth_has_an_end() {
    let deep = |name: &str| {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        format!(
            "<cib>\n{}{}</cib>",
            open.repeat(100_000),
            close.repeat(100_000)
        )
    };
    for name in ["rule", "gadget"] {
        let problem = read(&deep(name)).unwrap_err();
        assert_eq!((problem.rule, problem.at.line), ("xml", 2));
        assert!(problem.what.contains("nested"), "{problem}");
    }
}

/// Protects comments around the document and declarations of a type that declares nothing.
#[test]
fn what_stands_around_is_kept() {
    let text = "<!-- before -->\n<cib epoch=\"1\">\n  <configuration/>\n  <status/>\n</cib>\n<!-- after -->\n";
    let with_type = text.replace("<cib", "<!DOCTYPE cib SYSTEM \"crm.dtd\">\n<cib");
    let document = read(&with_type).unwrap().document;
    assert_eq!(document.before.len() + document.after.len(), 2);
    assert_eq!(write(&document), text);
}
