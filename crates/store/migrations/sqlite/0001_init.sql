-- One row per stream of changes. `revision` is raised inside the writing transaction; removals up to `horizon` are
-- forgotten, so a reader that is behind it reads everything again.
CREATE TABLE revisions (
    stream   TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    horizon  INTEGER NOT NULL
) STRICT;
INSERT INTO revisions (stream, revision, horizon) VALUES ('configuration', 0, 0), ('insights', 0, 0);

-- Times are microseconds since 1970. `sealed_with` names the key that `spec` is encrypted with.
CREATE TABLE resources (
    kind        TEXT    NOT NULL,
    mesh        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    modified    INTEGER NOT NULL,
    labels      TEXT    NOT NULL,
    spec        BLOB    NOT NULL,
    status      BLOB,
    sealed_with TEXT,
    owner_kind  TEXT,
    owner_mesh  TEXT,
    owner_name  TEXT,
    PRIMARY KEY (kind, mesh, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX resources_revision ON resources (revision);
CREATE INDEX resources_mesh ON resources (mesh);
CREATE INDEX resources_owner ON resources (owner_kind, owner_mesh, owner_name);

CREATE TABLE insights (
    kind        TEXT    NOT NULL,
    mesh        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    modified    INTEGER NOT NULL,
    labels      TEXT    NOT NULL,
    spec        BLOB    NOT NULL,
    status      BLOB,
    sealed_with TEXT,
    owner_kind  TEXT,
    owner_mesh  TEXT,
    owner_name  TEXT,
    PRIMARY KEY (kind, mesh, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX insights_revision ON insights (revision);
CREATE INDEX insights_mesh ON insights (mesh);
CREATE INDEX insights_owner ON insights (owner_kind, owner_mesh, owner_name);

-- What is gone, until it is created again or the horizon passes it.
CREATE TABLE removals (
    stream   TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    mesh     TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (stream, kind, mesh, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX removals_revision ON removals (stream, revision);

-- `token` grows each time a lease changes hands; `expires` is in microseconds since 1970 by the database's clock.
CREATE TABLE leases (
    name    TEXT    NOT NULL PRIMARY KEY,
    holder  TEXT    NOT NULL,
    token   INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
