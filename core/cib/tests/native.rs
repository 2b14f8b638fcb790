//! The native form: pleasant to write, exact to convert.

#![allow(clippy::unwrap_used, missing_docs)]

use mainstay_cib::{Document, Reading, check::check, native, read, validate::validate, write};

/// What somebody types, with most kinds of statements.
const TYPED: &str = r##"# A web server and its database
property stonith-enabled=true no-quorum-policy=stop
rsc_defaults resource-stickiness=100
node 1 n1
  attributes rack=a
  utilization ram=4096
node 2 n2
primitive fence stonith:fence_ipmilan
  params ip=10.0.0.1 username="the admin"
template server ocf:heartbeat:apache
  op monitor interval=10s timeout=20s
primitive ip ocf:heartbeat:IPaddr2
  params
    ip=10.0.0.9
    nic=eth0 $id=the-nic
  op monitor interval=10s
primitive httpd @server
group web ip httpd
  meta target-role=Started
clone db
  meta promotable=true
  primitive pg ocf:heartbeat:pgsql
    op monitor interval=9s role=Promoted
bundle box
  podman image=web:1 replicas=2
  network control-port=9999
location l1 web 100: n1
location l2 web resource-discovery=never
  rule -INFINITY: not_defined pingd or pingd number:lte 0
location l3 /^test-/ -INFINITY: n2
colocation c1 INFINITY: web db:Promoted
colocation c2 -50:
  set ip httpd sequential=false
order o1 Mandatory: db:promote web:start symmetrical=false
ticket t1 T: web loss-policy=fence
fencing-level id=f1 target=n1 index=1 devices=fence
tag both web db
alert a1 /usr/bin/tell
"##;

fn typed(text: &str) -> Reading {
    native::read(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Protects the promise of the form: what is typed means the XML that one would have written.
#[test]
fn what_is_typed_is_a_cib() {
    let reading = typed(TYPED);
    assert_eq!(reading.problems, []);
    assert_eq!(validate(&reading.document.cib), []);
    let xml = write(&reading.document);
    for line in [
        r#"<nvpair id="cib-bootstrap-options-stonith-enabled" name="stonith-enabled" value="true"/>"#,
        r#"<nvpair id="fence-instance_attributes-username" name="username" value="the admin"/>"#,
        r#"<nvpair id="the-nic" name="nic" value="eth0"/>"#,
        r#"<op id="ip-monitor-interval-10s" name="monitor" interval="10s"/>"#,
        r#"<primitive id="httpd" template="server"/>"#,
        r#"<rsc_location id="l1" rsc="web" node="n1" score="100"/>"#,
        r#"<rule id="l2-rule" score="-INFINITY" boolean-op="or">"#,
        r#"<expression id="l2-rule-expression-2" attribute="pingd" operation="lte" value="0" type="number"/>"#,
        r#"<rsc_location id="l3" rsc-pattern="^test-" node="n2" score="-INFINITY"/>"#,
        r#"<rsc_colocation id="c1" score="INFINITY" rsc="web" with-rsc="db" with-rsc-role="Promoted"/>"#,
        r#"<resource_set id="c2-set" sequential="false">"#,
        r#"<rsc_order id="o1" first="db" then="web" first-action="promote" then-action="start" kind="Mandatory" symmetrical="false"/>"#,
        r#"<rsc_ticket id="t1" rsc="web" ticket="T" loss-policy="fence"/>"#,
        r#"<obj_ref id="db"/>"#,
    ] {
        assert!(xml.contains(line), "{line}\n{xml}");
    }
    let members = reading.document.cib.resources()[1].members().len();
    assert_eq!(members, 2, "the group has taken its members in");
    let line = TYPED.lines().position(|l| l.starts_with("colocation c1"));
    let at = reading.document.cib.constraints()[3].at();
    assert_eq!(Some(at.line as usize), line.map(|l| l + 1));
}

/// Protects both ways: text to model to text and back is the same, and so is XML.
#[test]
fn nothing_is_lost_either_way() {
    let document = typed(TYPED).document;
    let text = native::write(&document);
    assert_eq!(typed(&text).document, document);
    assert_eq!(native::write(&typed(&text).document), text);
    let short = [
        "  op monitor interval=9s role=Promoted",
        "node 1 n1",
        "  rule -INFINITY: not_defined pingd or pingd number:lte 0",
        "colocation c1 INFINITY: web db:Promoted",
        "order o1 Mandatory: db:promote web:start symmetrical=false",
    ];
    for line in short {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(read(&write(&document)).unwrap().document, document);
}

/// Protects what the form has no words for: odd ids, unknown elements, comments, text, other orders,
/// references, dates.
#[test]
fn what_has_no_short_form_is_kept() {
    let xml = r##"<!-- before -->
<cib epoch="1" xmlns:x="urn:x" x:y="1">
  <configuration>
    <nodes/>
    <gadget id="g" size="5 &quot;inches&quot;">
      <part/>
    </gadget>
    <resources>
      <!-- two
           lines   -->
      <!-- and one -->
      <primitive id="a=b" class="ocf" provider="p" type="t:u" zone="7">
        <operations id="ops">
          <op id="odd" name="monitor" interval="5s"/>
        </operations>
        <instance_attributes id-ref="other"/>
        <instance_attributes id="s" score="5">
          <rule id="r" score="0" boolean-op="and">
            <date_expression id="d" operation="date_spec">
              <date_spec id="ds" hours="9-16"/>
            </date_expression>
          </rule>
          <nvpair id="p" name="$strange" value="a&#10;b"/>
          <nvpair id="q" name="no-value"/>
          <nvpair id-ref="p"/>
        </instance_attributes>
      </primitive>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="a=b" node="n"/>
      <rsc_location id="m" rsc="a=b">
        <rule id="m-rule" role="Promoted" score-attribute="5">
          <expression id="m-rule-expression" attribute="defined" operation="eq" value="and"/>
        </rule>
      </rsc_location>
      words
    </constraints>
  </configuration>
</cib>
<!-- after -->
"##;
    let document = read(xml).unwrap().document;
    let text = native::write(&document);
    let again = typed(&text).document;
    assert_eq!(write(&again), write(&document), "{text}");
    let only_head = read("<cib epoch=\"1\"/>").unwrap().document;
    assert_eq!(typed(&native::write(&only_head)).document, only_head);
    assert_eq!(
        typed(&native::write(&Document::default())).document,
        Document::default()
    );
}

/// Protects what clashes: names of elements that are keywords, instructions, odd text, references,
/// and several sets, rules and resource sets in one place.
#[test]
fn what_clashes_with_keywords_is_kept() {
    let xml = r##"<?xml-stylesheet href="a"?>
<cib epoch="1">
  <configuration>
    <op_defaults/>
    <rsc_defaults>
      <meta_attributes id="one"/>
      <meta_attributes id="two"/>
    </rsc_defaults>
    <nodes/>
    <crm_config>
      <order a="1"/>
      <utilization id-ref="u"/>
      <!text/>
      <?do  it ?>
      a &amp; b
    </crm_config>
    <resources>
      <primitive id="p" class="x" type="y">
        <operations id-ref="o">
          <op id-ref="o"/>
        </operations>
        <meta_attributes id="p-meta_attributes"/>
        <meta_attributes id="p-meta_attributes-2"/>
        <instance_attributes id="p-meta_attributes-2"/>
      </primitive>
      <op name="x" id="y"/>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="p">
        <rule id-ref="r"/>
        <rule id="l-rule-2" score="5"/>
      </rsc_location>
      <rsc_location id="m" rsc="p" score="1" node="rule"/>
      <rsc_order id="o">
        <resource_set id="o-set">
          <resource_ref id="p"/>
        </resource_set>
        <resource_set id="o-set-2"/>
      </rsc_order>
    </constraints>
  </configuration>
  <status/>
</cib>
"##
    .replace("<!text/>", "");
    let document = read(&xml).unwrap().document;
    let text = native::write(&document);
    let again = typed(&text).document;
    assert!(again.says_the_same_as(&document), "{text}");
    assert_eq!(native::write(&again), text);
    for line in ["rule 5:", "set p", "set", "op_defaults", "meta"] {
        assert!(text.lines().any(|l| l.trim() == line), "{line}: {text}");
    }
    // Nothing else is taken for the same.
    for (old, new) in [("a &amp; b", "a"), ("do  it", "do"), ("href=\"a\"", "")] {
        let other = read(&xml.replace(old, new)).unwrap().document;
        assert!(!other.says_the_same_as(&document), "{old}");
    }
}

/// Protects habits: what crmsh shows on one line is understood so, and with its line ends.
#[test]
fn parts_may_stand_on_the_line_of_their_owner() {
    let short = "node 1: n1 \\\n\tattributes standby=off\n\
        primitive ip IPaddr2 \\\n    params ip=10.0.0.9 \\\n    op monitor interval=10s \\\n    \
        op start interval=0s timeout=5s\n\
        group web ip meta target-role=Started\n\
        location l web rule 100: #uname eq n1\n\
        property cib-bootstrap-options: \\\n  stonith-enabled=true\nproperty batch-limit=3\n\
        tag t: web ip\n";
    let long = "property stonith-enabled=true batch-limit=3\nnode 1 n1\n  attributes standby=off\n\
        group web\n  primitive ip ocf:heartbeat:IPaddr2\n    params ip=10.0.0.9\n    \
        op monitor interval=10s\n    op start interval=0s timeout=5s\n  \
        meta target-role=Started\n\
        location l web\n  rule 100: #uname eq n1\ntag t web ip\n";
    let (short, long) = (typed(short).document, typed(long).document);
    let order = |d| native::write(d).replace("  meta target-role=Started\n", "");
    assert_eq!(order(&short), order(&long));
    let text = native::write(&short);
    assert!(text.contains("  rule 100: #uname eq n1\n"), "{text}");
    let problems = native::read("primitive a systemd:a \\\n  op monitor \\\n  nonsense\n");
    assert_eq!(problems.unwrap_err()[0].at.to_string(), "3:3");
}

/// Protects from what XML cannot say, and from depth: named with the place in the lines.
#[test]
fn what_xml_cannot_say_is_refused() {
    let deep = (1..200).map(|n| format!("{}a\n", " ".repeat(n)));
    let deep = format!("cib\n{}", deep.collect::<String>());
    let cases = [
        ("node 1 n\u{1}1\n", "1:9"),
        ("cib epoch=1\nnode 1 n1 a\u{b2}=5\n", "2:11"),
        ("cib\n  configuration\n    x/y\n", "3:5"),
        ("node 1 n1\n  x:gadget\n", "2:3"),
        ("# -- no\n", "1:1"),
        ("cib\n  !instruction \"xml version\"\n", "2:3"),
        ("primitive a systemd:a\n  x=1\n", "2:3"),
        ("primitive a systemd:a\n  meta\n    x=1 y=2\n", "3:9"),
        ("primitive a systemd:a class=ocf\n", "1:23"),
        (&deep, "101:101"),
    ];
    for (text, place) in cases {
        let problems = native::read(text).unwrap_err();
        assert_eq!(problems[0].at.to_string(), place, "{problems:?}");
        assert!(problems.len() < 3, "{problems:?}");
    }
}

/// Protects readers of the manual: its example is understood, and there is nothing to say about it.
#[test]
fn the_example_of_the_manual_is_sound() {
    let page = include_str!("../../../docs/native-form.md");
    let (_, rest) = page.split_once("```text\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let reading = typed(example);
    assert_eq!(reading.problems, []);
    assert_eq!(check(&reading.document.cib), []);
}

/// Protects typists: every mistake is named with line and column and a way out, all at once.
#[test]
fn mistakes_are_named_with_their_place() {
    let text = "primitive a ocf:Dummy\nprimtive b systemd:x\ngroup g c\nlocation l a\n  rule 5: x about y\n\
                primitive d systemd:d ip=1 extra words\n  params lonely\norder o1 a b c\n";
    let problems = native::read(text).unwrap_err();
    let seen: Vec<(u32, u32)> = problems.iter().map(|p| (p.at.line, p.at.column)).collect();
    assert_eq!(
        seen,
        [
            (1, 13),
            (2, 1),
            (2, 10),
            (2, 12),
            (3, 9),
            (5, 11),
            (6, 28),
            (7, 10),
            (8, 14)
        ]
        .into_iter()
        .filter(|place| *place != (2, 12))
        .collect::<Vec<_>>(),
        "{problems:#?}"
    );
    assert!(problems.iter().all(|p| !p.mend.is_empty()));
    let wrong = typed("primitive a systemd:a\n  op monitor interval=often\n");
    let places: Vec<_> = wrong.problems.iter().map(|p| (p.rule, p.at.line)).collect();
    assert_eq!(places, [("bad-value", 2)]);
}
