//! The rules of `mainstay check`: what each finds, and that it finds nothing where all is well.

#![allow(clippy::unwrap_used, missing_docs)]

use mainstay_cib::{
    Level, Problem,
    agents::{Agent, Agents},
    check::{check, check_with_agents},
    read,
};

/// Two nodes with fencing, a group, a promotable clone and constraints that make sense.
const GOOD: &str = r##"<cib>
  <configuration>
    <crm_config><cluster_property_set id="o">
      <nvpair id="o-f" name="stonith-enabled" value="true"/>
    </cluster_property_set></crm_config>
    <nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes>
    <resources>
      <primitive id="fence" class="stonith" type="fence_ipmilan"/>
      <group id="g">
        <primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2">
          <operations><op id="ip-m" name="monitor" interval="10s" timeout="20s"/></operations>
        </primitive>
        <primitive id="web" class="systemd" type="nginx">
          <operations><op id="web-m" name="monitor" interval="10s"/></operations>
        </primitive>
      </group>
      <clone id="db">
        <meta_attributes id="db-m"><nvpair id="db-p" name="promotable" value="true"/></meta_attributes>
        <primitive id="pg" class="ocf" provider="heartbeat" type="pgsql">
          <operations>
            <op id="pg-m" name="monitor" interval="10s"/>
            <op id="pg-p" name="monitor" interval="9s" role="Promoted"/>
          </operations>
        </primitive>
      </clone>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="g" node="n1" score="100"/>
      <rsc_colocation id="c" rsc="g" with-rsc="db" with-rsc-role="Promoted" score="INFINITY"/>
      <rsc_order id="o" first="db" then="g" first-action="promote" then-action="start"/>
    </constraints>
  </configuration>
</cib>"##;

fn problems(text: &str) -> Vec<Problem> {
    let reading = read(text).expect("a CIB");
    assert_eq!(reading.problems, [], "{text}");
    check(&reading.document.cib)
}

/// What is found when one text of the good configuration is replaced.
fn found(old: &str, new: &str) -> Vec<(&'static str, Level)> {
    assert!(GOOD.contains(old), "{old}");
    let text = GOOD.replacen(old, new, 1);
    problems(&text).iter().map(|p| (p.rule, p.level)).collect()
}

/// Protects operators from noise: a sound configuration has no complaints.
#[test]
fn all_is_well() {
    assert_eq!(problems(GOOD), []);
}

/// Protects each rule: what it is for is found, at the right level, and nothing else is.
#[test]
fn each_rule_finds_what_it_is_for() {
    use Level::{Error, Note, Warning};
    let end = "</constraints>";
    let options = "</cluster_property_set>";
    let resources = "</resources>";
    let fence = r#"<primitive id="fence" class="stonith" type="fence_ipmilan"/>"#;
    let more = |new: &str, at: &str| format!("{new}{at}");
    for (old, new, rule, level) in [
        (
            "\"true\"/>\n    </cl",
            "\"false\"/></cl".to_owned(),
            "fencing-off",
            Warning,
        ),
        (fence, String::new(), "no-fencing-device", Error),
        (
            options,
            more(
                r#"<nvpair id="x" name="no-quorum-polciy" value="stop"/>"#,
                options,
            ),
            "unknown-name",
            Warning,
        ),
        (
            options,
            more(r#"<nvpair id="x" name="shoe-size" value="44"/>"#, options),
            "unknown-name",
            Note,
        ),
        (
            options,
            more(
                r#"<nvpair id="x" name="batch-limit" value="many"/>"#,
                options,
            ),
            "bad-value",
            Warning,
        ),
        (
            options,
            more(
                r#"<nvpair id="x" name="maintenance-mode" value="yes"/>"#,
                options,
            ),
            "set-aside",
            Note,
        ),
        (
            r#"<op id="web-m" name="monitor" interval="10s"/>"#,
            String::new(),
            "no-monitor",
            Note,
        ),
        (
            r#"interval="10s" timeout="20s""#,
            r#"interval="10ms""#.to_owned(),
            "monitor-too-often",
            Warning,
        ),
        (
            r#"timeout="20s""#,
            r#"timeout="0""#.to_owned(),
            "no-time",
            Warning,
        ),
        (
            r#"<op id="pg-p" name="monitor" interval="9s" role="Promoted"/>"#,
            String::new(),
            "no-promoted-monitor",
            Warning,
        ),
        (
            r#"interval="9s""#,
            r#"interval="10""#.to_owned(),
            "duplicate-operation",
            Error,
        ),
        (
            r#"<op id="web-m""#,
            r#"<op id="w" name="start" interval="5s"/><op id="web-m""#.to_owned(),
            "interval-of-action",
            Warning,
        ),
        (
            r#"node="n1""#,
            r#"node="n7""#.to_owned(),
            "unknown-node",
            Warning,
        ),
        (
            r#" node="n1" score="100""#,
            String::new(),
            "no-effect",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_location id="x" rsc="g" node="n2" score="INFINITY"/><rsc_location id="y" rsc="g" node="n2" score="-INFINITY"/>"#,
                end,
            ),
            "contradiction",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_location id="x" rsc="fence" node="n1" score="-INFINITY"/><rsc_location id="y" rsc="fence" node="n2" score="-INFINITY"/>"#,
                end,
            ),
            "nowhere",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_location id="x" rsc="pg" node="n1" score="-INFINITY"/>"#,
                end,
            ),
            "unreachable",
            Warning,
        ),
        (
            end,
            more(
                r##"<rsc_location id="x" rsc="web"><rule id="r" score="-INFINITY"><expression id="e" attribute="#uname" operation="eq" value="n1"/></rule></rsc_location>"##,
                end,
            ),
            "unreachable",
            Warning,
        ),
        (
            end,
            more(r#"<rsc_order id="x" first="web" then="ip"/>"#, end),
            "order-circle",
            Error,
        ),
        (
            end,
            more(
                r#"<rsc_order id="x"><resource_set id="s"><resource_ref id="g"/><resource_ref id="fence"/></resource_set><resource_set id="t"><resource_ref id="ip"/></resource_set></rsc_order>"#,
                end,
            ),
            "order-circle",
            Error,
        ),
        (
            end,
            more(
                r#"<rsc_order id="x" first="g" then="fence" then-action="promote"/>"#,
                end,
            ),
            "never-promoted",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_location id="x" rsc="g"><rule id-ref="nothing"/></rsc_location>"#,
                end,
            ),
            "missing-reference",
            Warning,
        ),
        (
            fence,
            fence.replace(
                "/>",
                r#"><instance_attributes id="f"><nvpair id="f1" name="pcmk_host_list" value="n1"/></instance_attributes></primitive>"#,
            ),
            "not-fenced",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_location id="cli-ban-db-on-n2" rsc="db" node="n2" score="-INFINITY"/>"#,
                end,
            ),
            "left-by-command",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_colocation id="x" rsc="ip" with-rsc="web" score="-INFINITY"/>"#,
                end,
            ),
            "contradiction",
            Error,
        ),
        (
            end,
            more(
                r#"<rsc_colocation id="x" rsc="ip" with-rsc="ip" score="1"/>"#,
                end,
            ),
            "with-itself",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_order id="x" first="db" then="g"/><rsc_order id="y" first="g" then="db"/>"#,
                end,
            ),
            "order-circle",
            Error,
        ),
        (
            end,
            more(
                r##"<rsc_location id="x" rsc="g"><rule id="r" score="5"><expression id="e" attribute="#uname" operation="eq" value="n1"/><expression id="f" attribute="#uname" operation="eq" value="n2"/></rule></rsc_location>"##,
                end,
            ),
            "never-true",
            Warning,
        ),
        (
            end,
            more(
                r#"<rsc_colocation id="x" rsc="ghost" with-rsc="g" score="1"/>"#,
                end,
            ),
            "missing-resource",
            Warning,
        ),
        (
            r#"with-rsc-role="Promoted""#,
            r#"with-rsc-role="Master""#.to_owned(),
            "old-notation",
            Note,
        ),
        (
            resources,
            more(
                r#"<clone id="k"><meta_attributes id="km"><nvpair id="k1" name="clone-max" value="5"/></meta_attributes><primitive id="kp" class="systemd" type="x"><operations><op id="kk" name="monitor" interval="9s"/></operations></primitive></clone>"#,
                resources,
            ),
            "too-many-instances",
            Note,
        ),
        (
            resources,
            more(
                r#"<bundle id="k"><podman image="i"/><primitive id="kp" class="systemd" type="x"><operations><op id="kk" name="monitor" interval="9s"/></operations></primitive></bundle>"#,
                resources,
            ),
            "bundle-unreachable",
            Error,
        ),
        (
            resources,
            more(
                r#"<primitive id="k" class="systemd" type="x"><operations><op id="kk" name="monitor" interval="9s"/></operations><utilization id="ku"><nvpair id="k1" name="ram" value="4"/></utilization></primitive>"#,
                resources,
            ),
            "utilization-unused",
            Warning,
        ),
        (
            "<node id=\"2\" uname=\"n2\"/>",
            "<node id=\"2\" uname=\"n2\"/><node id=\"1\" uname=\"n1\"/>".to_owned(),
            "duplicate-id",
            Error,
        ),
    ] {
        assert_eq!(found(old, &new), [(rule, level)], "{new}");
    }
}

/// Protects from complaints about what is right: a bundle that promotes, a guest node, a device for
/// each member.
#[test]
fn nothing_is_said_of_what_is_right() {
    let fence = r#"<primitive id="fence" class="stonith" type="fence_ipmilan"/>"#;
    let device = fence.replace(
        "/>",
        r#"><instance_attributes id="f"><nvpair id="f1" name="pcmk_host_map" value="N1:1;n2:2"/></instance_attributes></primitive>"#,
    );
    let bundle = r#"<bundle id="box"><podman image="i" promoted-max="1"/><network control-port="5"/></bundle></resources>"#;
    let wish =
        r#"<rsc_location id="x" rsc="box" role="Promoted" node="n1" score="5"/></constraints>"#;
    let text = GOOD
        .replace(fence, &device)
        .replace(
            "</nodes>",
            r#"<node id="box-0" uname="box-0" type="remote"/></nodes>"#,
        )
        .replace("</resources>", bundle)
        .replace("</constraints>", wish);
    assert_eq!(problems(&text), []);
}

/// Protects small clusters from each other: quorum is looked at together with fencing.
#[test]
fn quorum_and_fencing_are_looked_at_together() {
    let options = "</cluster_property_set>";
    let ignore =
        r#"<nvpair id="x" name="no-quorum-policy" value="ignore"/></cluster_property_set>"#;
    assert_eq!(found(options, ignore), []);
    let three = GOOD
        .replace(
            "<node id=\"2\"",
            "<node id=\"3\" uname=\"n3\"/><node id=\"2\"",
        )
        .replace(options, ignore);
    let rules: Vec<_> = problems(&three).iter().map(|p| p.rule).collect();
    assert_eq!(rules, ["quorum-ignored"]);
}

/// Protects opt-in clusters: a resource that no node is allowed for is named.
#[test]
fn nodes_must_be_allowed_where_they_must() {
    let options = "</cluster_property_set>";
    let opt_in =
        r#"<nvpair id="x" name="symmetric-cluster" value="false"/></cluster_property_set>"#;
    let rules = found(options, opt_in);
    assert_eq!(rules, [("nowhere", Level::Warning); 2], "fence and db");
}

/// Protects from what agents cannot do: parameters, actions and timeouts are held against what they
/// say of themselves.
#[test]
fn agents_are_asked() {
    let describes = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="IPaddr2" version="1.0">
  <parameters>
    <parameter name="ip" required="1"><content type="string"/></parameter>
    <parameter name="nic" required="0"><content type="string"/></parameter>
  </parameters>
  <actions>
    <action name="start" timeout="20s"/>
    <action name="stop" timeout="60s"/>
    <action name="monitor" timeout="30s" interval="10s"/>
    <action name="meta-data" timeout="5s"/>
  </actions>
</resource-agent>
"#;
    let mut agents = Agents::new();
    let agent = Agent::read(describes).unwrap();
    agents.insert("ocf:heartbeat:IPaddr2".to_owned(), agent);
    let found = |new: &str| -> Vec<String> {
        let text = GOOD.replacen("type=\"IPaddr2\">", &format!("type=\"IPaddr2\">{new}"), 1);
        let cib = read(&text).unwrap().document.cib;
        let problems = check_with_agents(&cib, &agents);
        problems
            .iter()
            .map(|p| format!("{} {}", p.rule, p.what))
            .collect()
    };
    assert_eq!(
        found(
            r#"<instance_attributes id="i"><nvpair id="i1" name="nik" value="eth0"/></instance_attributes>"#
        ),
        [
            "missing-parameter its agent needs the parameter ip",
            "short-timeout stop gets 20s, and its agent advises 1min",
            "unknown-parameter ocf:heartbeat:IPaddr2 has no parameter \"nik\"",
            "short-timeout monitor gets 20s, and its agent advises 30s",
        ]
    );
    let defaults = GOOD.replace(
        "</configuration>",
        r#"<op_defaults><meta_attributes id="d"><nvpair id="d1" name="timeout" value="60s"/></meta_attributes></op_defaults></configuration>"#,
    );
    let enough = defaults
        .replacen("type=\"IPaddr2\">", r#"type="IPaddr2"><instance_attributes id="i"><nvpair id="i1" name="ip" value="::1"/></instance_attributes>"#, 1)
        .replacen(" timeout=\"20s\"", "", 1);
    let cib = read(&enough).unwrap().document.cib;
    assert_eq!(check_with_agents(&cib, &agents), []);
    assert_eq!(Agent::read("<cib/>").unwrap_err().rule, "no-agent");
}
