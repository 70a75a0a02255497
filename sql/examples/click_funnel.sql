-- How far visits go: a visit is a user's clicks with no pause of half an hour; a funnel is view, cart, purchase.
--
--   cd sql/examples && streamkit sql run click_funnel.sql --json

CREATE TABLE clicks (
  visitor STRING,
  page STRING,
  clicked_at TIMESTAMP(3),
  WATERMARK FOR clicked_at AS clicked_at - INTERVAL '10' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = 'data/clicks.json',
  'format' = 'json'
);

CREATE VIEW visits AS
SELECT
  visitor,
  window_start AS began_at,
  window_time AS until,
  COUNT(*) FILTER (WHERE page = 'view') AS seen,
  COUNT(*) FILTER (WHERE page = 'cart') AS carts,
  COUNT(*) FILTER (WHERE page = 'purchase') AS purchases
FROM TABLE(SESSION(TABLE clicks PARTITION BY visitor, DESCRIPTOR(clicked_at), INTERVAL '30' MINUTE))
GROUP BY visitor, window_start, window_end, window_time;

SELECT
  window_start AS of_day,
  COUNT(*) AS visits,
  COUNT(*) FILTER (WHERE seen > 0) AS viewed,
  COUNT(*) FILTER (WHERE seen > 0 AND carts > 0) AS filled_a_cart,
  COUNT(*) FILTER (WHERE seen > 0 AND carts > 0 AND purchases > 0) AS bought
FROM TABLE(TUMBLE(TABLE visits, DESCRIPTOR(until), INTERVAL '1' DAY))
GROUP BY window_start, window_end;
