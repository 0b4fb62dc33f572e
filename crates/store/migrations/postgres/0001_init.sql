-- One row per stream of changes. `revision` is raised inside the writing transaction; removals up to `horizon` are
-- forgotten, so a reader that is behind it reads everything again.
CREATE TABLE revisions (
    stream      TEXT             NOT NULL PRIMARY KEY,
    revision    BIGINT           NOT NULL,
    horizon     BIGINT           NOT NULL
);
INSERT INTO revisions (stream, revision, horizon) VALUES ('configuration', 0, 0), ('insights', 0, 0);

-- Times are microseconds since 1970. `sealed_with` names the key that `spec` is encrypted with.
CREATE TABLE resources (
    kind        TEXT COLLATE "C" NOT NULL,
    mesh        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    version     BIGINT           NOT NULL,
    revision    BIGINT           NOT NULL,
    created     BIGINT           NOT NULL,
    modified    BIGINT           NOT NULL,
    labels      JSONB            NOT NULL,
    spec        BYTEA            NOT NULL,
    status      BYTEA,
    sealed_with TEXT,
    owner_kind  TEXT,
    owner_mesh  TEXT,
    owner_name  TEXT,
    PRIMARY KEY (kind, mesh, name)
);
CREATE INDEX resources_revision ON resources (revision);
CREATE INDEX resources_mesh ON resources (mesh);
CREATE INDEX resources_owner ON resources (owner_kind, owner_mesh, owner_name);

CREATE TABLE insights (
    kind        TEXT COLLATE "C" NOT NULL,
    mesh        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    version     BIGINT           NOT NULL,
    revision    BIGINT           NOT NULL,
    created     BIGINT           NOT NULL,
    modified    BIGINT           NOT NULL,
    labels      JSONB            NOT NULL,
    spec        BYTEA            NOT NULL,
    status      BYTEA,
    sealed_with TEXT,
    owner_kind  TEXT,
    owner_mesh  TEXT,
    owner_name  TEXT,
    PRIMARY KEY (kind, mesh, name)
);
CREATE INDEX insights_revision ON insights (revision);
CREATE INDEX insights_mesh ON insights (mesh);
CREATE INDEX insights_owner ON insights (owner_kind, owner_mesh, owner_name);

-- What is gone, until it is created again or the horizon passes it.
CREATE TABLE removals (
    stream      TEXT             NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    mesh        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    revision    BIGINT           NOT NULL,
    PRIMARY KEY (stream, kind, mesh, name)
);
CREATE INDEX removals_revision ON removals (stream, revision);

-- `token` grows each time a lease changes hands; `expires` is in microseconds since 1970 by the database's clock.
CREATE TABLE leases (
    name        TEXT             NOT NULL PRIMARY KEY,
    holder      TEXT             NOT NULL,
    token       BIGINT           NOT NULL,
    expires     BIGINT           NOT NULL
);
