-- title: What a file tells about itself
-- data: orders rows=100 seed=3
CREATE TABLE files (
  id BIGINT, `file.name` STRING NOT NULL METADATA, `file.size` BIGINT NOT NULL METADATA
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT id, `file.name`, `file.size` FROM files;
