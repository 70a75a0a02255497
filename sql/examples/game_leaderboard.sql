-- The three best players of every minute: points of games that are reported up to five seconds late.
--
--   cd sql/examples && streamkit sql run game_leaderboard.sql --json
--
-- Over a live stream: 'connector' = 'kinesis', 'stream' = 'games' instead of the file.

CREATE TABLE games (
  player STRING,
  points INT,
  played_at TIMESTAMP(3),
  WATERMARK FOR played_at AS played_at - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = 'data/games.json',
  'format' = 'json'
);

SELECT window_end, place, player, points FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY points DESC, player) AS place
  FROM (
    SELECT window_start, window_end, player, SUM(points) AS points
    FROM TABLE(TUMBLE(TABLE games, DESCRIPTOR(played_at), INTERVAL '1' MINUTE))
    GROUP BY window_start, window_end, player))
WHERE place <= 3;
