import type { KeyContext, Route } from '../route.js';
import type { BatchRoutesOptions } from './batch.js';
import { batchRoutes } from './batch.js';
import type { EventListRoutesOptions } from './event-list.js';
import { eventListRoutes } from './event-list.js';
import type { EventStreamRoutesOptions } from './event-stream.js';
import { eventStreamRoutes } from './event-stream.js';
import type { AuditRoutesOptions } from './audit.js';
import { auditRoutes } from './audit.js';
import { documentationRoutes } from './documentation.js';
import type { ErasureRoutesOptions } from './erasures.js';
import { erasureRoutes } from './erasures.js';
import type { EventRoutesOptions } from './events.js';
import { eventRoutes } from './events.js';
import type { InboxRoutesOptions } from './inbox.js';
import { inboxRoutes } from './inbox.js';
import type { InboxesRoutesOptions } from './inboxes.js';
import { inboxesRoutes } from './inboxes.js';
import type { KeyRoutesOptions } from './keys.js';
import { keyRoutes } from './keys.js';
import type { OperationsRoutesOptions } from './operations.js';
import { operationsRoutes } from './operations.js';
import type { OrgRoutesOptions } from './orgs.js';
import { orgRoutes } from './orgs.js';

export type RouteTableOptions = EventRoutesOptions &
  BatchRoutesOptions &
  EventListRoutesOptions &
  EventStreamRoutesOptions &
  InboxRoutesOptions &
  InboxesRoutesOptions &
  KeyRoutesOptions &
  AuditRoutesOptions &
  ErasureRoutesOptions &
  OrgRoutesOptions &
  OperationsRoutesOptions;

/** Every route there is. Making the table does nothing; only a route's handler uses the parts. */
export function routeTable(parts: RouteTableOptions): readonly (Route | Route<KeyContext>)[] {
  const orgs = orgRoutes(parts);
  const routes: readonly (Route | Route<KeyContext>)[] = [
    ...eventRoutes(parts),
    ...batchRoutes(parts),
    ...eventListRoutes(parts),
    ...eventStreamRoutes(parts),
    ...inboxRoutes(parts),
    ...inboxesRoutes(parts),
    ...keyRoutes(parts),
    ...auditRoutes(parts),
    ...erasureRoutes(parts),
    ...orgs.own,
    ...orgs.admin,
    ...operationsRoutes(parts),
    ...documentationRoutes(() => routes),
  ];
  return routes;
}
