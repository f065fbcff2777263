//! Usage by hand: checked whole, taken once however often it is run, and written out again for another instance.

use std::fs;

use crate::world::{NOON, World, units};

#[test]
fn a_file_is_checked_whole_and_adds_nothing_the_second_time() {
    let world = World::new(NOON + 600, 1);
    let agent = world.start();
    let file = world.path("usage.csv");
    let name = file.display().to_string();
    let requests = || units(&agent.books("requests"), "received");

    let good = "time,dimension,quantity,tags\n2026-11-21T11:00:00Z,requests,2,team=blue\n2026-11-21T11:00:00Z,requests,2,team=blue\n\
                2026-11-21T11:30:00Z,requests,5,\n";
    fs::write(&file, format!("{good}2026-11-21T11:30:00Z,requets,5,\n2026-11-01T11:30:00Z,requests,5,\n")).unwrap();
    let ran = world.run(&["import", &name]);
    assert_eq!((ran.code, requests()), (1, 0), "{ran:?}");
    for words in ["line 5: unknown_dimension", "line 6: time_out_of_range", "2 of 5 rows are wrong; nothing was taken"]
    {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }

    fs::write(&file, good).unwrap();
    let ran = world.run(&["import", &name, "--dry-run"]);
    assert!(ran.code == 0 && ran.stdout.contains("3 rows are right; nothing was taken"), "{ran:?}");
    assert_eq!(requests(), 0);
    let ran = world.run(&["import", &name]);
    assert!(ran.code == 0 && ran.stdout.contains("3 rows are durable; 0 were known already"), "{ran:?}");
    assert_eq!(requests(), 9);
    let ran = world.run(&["import", &name, "--json"]);
    assert_eq!((ran.code, ran.json()["taken"].as_u64(), ran.json()["known"].as_u64()), (0, Some(0), Some(3)));
    assert_eq!(requests(), 9, "run twice, it adds nothing");
    // Continued, and in another order: only what is new counts.
    let more = "dimension,time,quantity,tags\nrequests,2026-11-21T11:45:00Z,7,\nrequests,2026-11-21T11:30:00Z,5.0,\n\
                requests,2026-11-21T11:00:00Z,2,team=blue\nrequests,2026-11-21T11:00:00Z,2,team=blue\n";
    fs::write(&file, more).unwrap();
    let ran = world.run(&["import", &name, "--json"]);
    assert_eq!(
        (ran.code, ran.json()["taken"].as_u64(), ran.json()["known"].as_u64()),
        (0, Some(1), Some(3)),
        "{ran:?}"
    );
    assert_eq!(requests(), 16);

    // A key that stood for something else: said with its line, and nothing of that line's array is taken.
    fs::write(&file, "time,dimension,quantity,key\n2026-11-21T11:00:00Z,requests,1,k\n").unwrap();
    assert_eq!(world.run(&["import", &name]).code, 0);
    fs::write(
        &file,
        "time,dimension,quantity,key\n2026-11-21T11:00:00Z,requests,4,fresh\n2026-11-21T11:00:00Z,requests,2,k\n",
    )
    .unwrap();
    let ran = world.run(&["import", &name]);
    assert!(ran.code == 1 && ran.stderr.contains("line 3: key_conflict"), "{ran:?}");
    assert_eq!(requests(), 17);

    // More than one array's worth.
    let rows: String = (0..3000).map(|n| format!("{},gigabytes,1,row-{n}\n", NOON - 60)).collect();
    fs::write(&file, format!("time,dimension,quantity,key\n{rows}")).unwrap();
    let ran = world.run(&["import", &name]);
    assert!(ran.code == 0 && ran.stdout.contains("3000 rows are durable"), "{ran:?}");
    assert_eq!(units(&agent.books("gigabytes"), "received"), 3000);
    agent.stop();
}
